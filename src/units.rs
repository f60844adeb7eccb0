//! Sizes and shares as people write them: `--ram` in MiB or with a suffix, `--cpu` in percent of one CPU.
//! Bytes everywhere in code and JSON; MiB only in text for people.

use std::fmt;
use std::str::FromStr;

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// The CFS period that limits of rt are written with, in microseconds (the kernel's own default).
pub const CPU_PERIOD_US: u64 = 100_000;

/// The smallest quota the kernel takes, in microseconds (`min_cfs_quota_period`, kernel/sched/core.c).
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// The largest finite limit that fits the OCI spec's signed field and the kernel's page counter.
const RAM_MAX: u64 = i64::MAX as u64;

/// Why a size or a share was not understood. The value is named in each message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    #[error("'{0}' is no memory size: expected MiB as in 128, a suffix as in 128M or 1g, or max")]
    Ram(String),
    #[error("memory size '{0}' is zero: a container cannot run without memory")]
    RamZero(String),
    #[error("memory size '{0}' is too large")]
    RamTooLarge(String),
    #[error("'{0}' is no CPU share: expected percent of one CPU as in 25, 12.5 or 200, or max")]
    Cpu(String),
    #[error("CPU share '{0}' is too small: the kernel's least is 1 percent of one CPU")]
    CpuTooSmall(String),
    #[error("CPU share '{0}' is too large")]
    CpuTooLarge(String),
}

/// A memory limit as `--ram` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ram {
    /// At most this many bytes.
    Limited(u64),
    /// No limit (`max`).
    Unlimited,
}

impl Ram {
    /// The limit as the OCI spec writes it: bytes, −1 for none.
    pub fn as_spec_limit(self) -> i64 {
        match self {
            Self::Limited(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            Self::Unlimited => -1,
        }
    }
}

impl FromStr for Ram {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Unlimited);
        }
        let bytes = parse_size(text, MIB).ok_or_else(|| UnitError::Ram(text.to_owned()))?;
        match bytes {
            SizeParse::Bytes(0) => Err(UnitError::RamZero(text.to_owned())),
            SizeParse::Bytes(n) if n <= RAM_MAX => Ok(Self::Limited(n)),
            _ => Err(UnitError::RamTooLarge(text.to_owned())),
        }
    }
}

/// A CPU limit as `--cpu` takes it: time per period of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuShare {
    /// At most this many microseconds of CPU time in each [`CPU_PERIOD_US`].
    Limited { quota_us: u64 },
    /// No limit (`max`).
    Unlimited,
}

impl CpuShare {
    /// The quota as the OCI spec writes it: microseconds a period, −1 for none.
    pub fn as_spec_quota(self) -> i64 {
        match self {
            Self::Limited { quota_us } => i64::try_from(quota_us).unwrap_or(i64::MAX),
            Self::Unlimited => -1,
        }
    }
}

impl FromStr for CpuShare {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Unlimited);
        }
        let number = text.strip_suffix('%').unwrap_or(text);
        let quota_us =
            parse_decimal(number, CPU_PERIOD_US / 100).ok_or_else(|| UnitError::Cpu(text.to_owned()))?;
        match quota_us {
            SizeParse::Bytes(n) if n < CPU_QUOTA_MIN_US => Err(UnitError::CpuTooSmall(text.to_owned())),
            // The kernel holds the quota in nanoseconds in 44 bits (max_cfs_runtime).
            SizeParse::Bytes(n) if n <= (1 << 44) / 1_000 => Ok(Self::Limited { quota_us: n }),
            _ => Err(UnitError::CpuTooLarge(text.to_owned())),
        }
    }
}

enum SizeParse {
    Bytes(u64),
    Overflow,
}

/// A whole number with an optional suffix (b, k, m, g, t; each with an optional `b` or `ib`), in powers of 1024.
fn parse_size(text: &str, default_unit: u64) -> Option<SizeParse> {
    let digits_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let unit = match suffix.to_ascii_lowercase().as_str() {
        "" => default_unit,
        "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    parse_decimal(number, unit)
}

/// `number`, with an optional fraction of up to six digits, times `unit`, rounded down.
fn parse_decimal(number: &str, unit: u64) -> Option<SizeParse> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
        return None;
    }
    if number.ends_with('.') {
        return None;
    }
    let Ok(whole) = whole.parse::<u64>() else { return Some(SizeParse::Overflow) };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let total = u128::from(whole) * u128::from(unit) + part * u128::from(unit) / scale;
    Some(u64::try_from(total).map_or(SizeParse::Overflow, SizeParse::Bytes))
}

/// Bytes shown in MiB with one decimal, or none where it is whole: `63.9 MiB`, `128 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(MIB) {
            return write!(f, "{} MiB", self.0 / MIB);
        }
        let hundredths = (u128::from(self.0) * 100 + u128::from(MIB) / 2) / u128::from(MIB);
        if self.0 < 10 * MIB {
            write!(f, "{}.{:02} MiB", hundredths / 100, hundredths % 100)
        } else {
            let tenths = (hundredths + 5) / 10;
            write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_mib_unless_a_suffix_says_otherwise() {
        for (text, bytes) in [
            ("128", 128 * MIB),
            ("128M", 128 * MIB),
            ("128m", 128 * MIB),
            ("128MiB", 128 * MIB),
            ("1g", 1024 * MIB),
            ("0.5g", 512 * MIB),
            ("65536k", 64 * MIB),
            ("4096b", 4096),
            ("1.5", MIB + MIB / 2),
        ] {
            assert_eq!(text.parse(), Ok(Ram::Limited(bytes)), "{text}");
        }
        assert_eq!("max".parse(), Ok(Ram::Unlimited));
        assert_eq!(Ram::Unlimited.as_spec_limit(), -1);
    }

    #[test]
    fn bad_ram_is_named_in_the_error() {
        for text in ["", "-1", "12x", "m", "1.", ".5", "1e3", " 1", "0x10", "١", "1..2"] {
            assert_eq!(text.parse::<Ram>(), Err(UnitError::Ram(text.to_owned())), "{text:?}");
        }
        assert_eq!("0".parse::<Ram>(), Err(UnitError::RamZero("0".to_owned())));
        for text in ["99999999999999999999", "9000000t", "18446744073709551615"] {
            assert_eq!(text.parse::<Ram>(), Err(UnitError::RamTooLarge(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn cpu_is_percent_of_one_cpu() {
        for (text, quota_us) in
            [("25", 25_000), ("12.5", 12_500), ("200", 200_000), ("50%", 50_000), ("1", 1_000)]
        {
            assert_eq!(text.parse(), Ok(CpuShare::Limited { quota_us }), "{text}");
        }
        assert_eq!("max".parse(), Ok(CpuShare::Unlimited));
    }

    #[test]
    fn bad_cpu_is_named_in_the_error() {
        for text in ["", "-1", "abc", "25c", "1."] {
            assert_eq!(text.parse::<CpuShare>(), Err(UnitError::Cpu(text.to_owned())), "{text:?}");
        }
        assert_eq!("0".parse::<CpuShare>(), Err(UnitError::CpuTooSmall("0".to_owned())));
        assert_eq!("0.5".parse::<CpuShare>(), Err(UnitError::CpuTooSmall("0.5".to_owned())));
        assert!(matches!("99999999999".parse::<CpuShare>(), Err(UnitError::CpuTooLarge(_))));
    }

    #[test]
    fn mib_has_as_many_digits_as_help() {
        assert_eq!(Mib(128 * MIB).to_string(), "128 MiB");
        assert_eq!(Mib(66_974_720).to_string(), "63.9 MiB");
        assert_eq!(Mib(393_216).to_string(), "0.38 MiB");
        assert_eq!(Mib(10 * MIB - 1).to_string(), "10.00 MiB");
        assert_eq!(Mib(0).to_string(), "0 MiB");
    }
}
