//! Which points are tried.

use super::point::Point;
use super::scenario::ALL;

/// How many points are tried on every change: here, and in a guest, which is slow.
pub const SAMPLE: usize = 600;
const SAMPLE_IN_GUEST: usize = 100;

/// Some scenarios, or all where none is named, and some of their points.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    scenarios: Vec<String>,
    count: Count,
}

#[derive(Debug, PartialEq, Eq)]
enum Count {
    All,
    /// Those with the smallest ranks.
    Some(usize),
}

impl Choice {
    /// Reads `RT_FAULTS`.
    pub fn of(text: &str) -> Self {
        let (scenarios, counts): (Vec<&str>, Vec<&str>) = text
            .split(',')
            .filter(|word| !word.is_empty())
            .partition(|word| ALL.iter().any(|scenario| scenario.name == *word));
        let count = match counts.as_slice() {
            [] if !scenarios.is_empty() => Count::All,
            [] if in_guest() => Count::Some(SAMPLE_IN_GUEST),
            [] => Count::Some(SAMPLE),
            ["all"] => Count::All,
            [count] => Count::Some(count.parse().expect("a scenario, or a number of points")),
            _ => panic!("'{text}' has two counts, or no scenario of that name"),
        };
        Self { scenarios: scenarios.into_iter().map(str::to_owned).collect(), count }
    }

    pub fn has(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario)
    }

    /// By rank, so that a run which is cut short has tried a sample, too.
    pub fn points(&self, mut all: Vec<Point>) -> Vec<Point> {
        all.sort_by_cached_key(Point::rank);
        if let Count::Some(count) = self.count {
            all.truncate(count);
        }
        all
    }
}

pub fn in_guest() -> bool {
    std::env::var("RT_GUEST").is_ok_and(|guest| guest != "host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_scenarios_and_the_rest_how_many() {
        let choice = Choice::of("create,exec,40");
        assert_eq!(choice.count, Count::Some(40));
        assert!(choice.has("create") && choice.has("exec") && !choice.has("run"));
        assert_eq!(Choice::of("run").count, Count::All);
        assert_eq!(Choice::of("50"), Choice { scenarios: Vec::new(), count: Count::Some(50) });
    }
}
