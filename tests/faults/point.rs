//! The name of one fault at one call: `create/0.1/openat/3/EMFILE` is the third openat of the second child of rt in `create`.
//! Names do not depend on the order in which processes run.

use std::fmt;
use std::str::FromStr;

use super::fault::Fault;

/// One call of a traced tree of processes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// `0` is the process that was started, `0.1` its second child.
    pub process: String,
    /// The system call.
    pub name: String,
    /// The how many-th of this name in this process, from 1.
    pub nth: u32,
}

/// A fault at a call of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub scenario: String,
    pub call: Call,
    pub fault: Fault,
}

impl Point {
    /// A number that depends on the name alone, and on all of it: points with the smallest ones are the sample, so that it stays
    /// the same where calls are added or removed.
    pub fn rank(&self) -> u64 {
        // FNV-1a, then the finaliser of MurmurHash3.
        let hash = self.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ (hash >> 33)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.process, self.name, self.nth)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scenario, self.call, self.fault)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let &[scenario, process, name, nth, fault] = parts.as_slice() else {
            return Err(format!("'{text}' is not SCENARIO/PROCESS/CALL/NTH/FAULT"));
        };
        let nth = nth.parse().map_err(|_| format!("'{nth}' is no number"))?;
        let call = Call { process: process.to_owned(), name: name.to_owned(), nth };
        Ok(Self { scenario: scenario.to_owned(), call, fault: fault.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_as_it_is_printed() {
        for text in ["create/0/openat/3/EMFILE", "exec-wait/0.1.0/close/12/kill"] {
            assert_eq!(text.parse::<Point>().unwrap().to_string(), text);
        }
        for text in ["create/0/openat/3", "create/0/openat/x/kill", "create/0/openat/3/EWHAT"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }
}
