//! Values as runc's users write them: durations as in Go, sizes as in docker.

use std::time::Duration;

/// A duration as Go prints it (`5s`, `100ms`, `1.5h`, `1m30s`), or a plain number of seconds.
///
/// # Errors
/// Says what is wrong with `text`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration '{text}'");
    let mut rest = text;
    let mut seconds = if rest.is_empty() { return Err(invalid()) } else { 0.0 };
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number_value: f64 = number.parse().map_err(|_| invalid())?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" if number == text => 1.0,
            _ => return Err(invalid()),
        };
        seconds += number_value * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

/// Bytes as docker reads them: a number, fractions allowed, with an optional binary unit (`60M`, `1.5g`,
/// `512KiB`, `10b`); `-1` stands for "no limit".
///
/// # Errors
/// Says what is wrong with `text`.
pub fn memory_bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("invalid size '{text}'");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(invalid()),
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << power).ok_or_else(invalid);
    }
    let bytes = number.parse::<f64>().map_err(|_| invalid())? * 2f64.powi(power);
    // 2^63 is the first f64 that does not fit.
    if bytes >= 9_223_372_036_854_775_808.0 {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was just checked; a fraction of a byte is dropped"
    )]
    Ok(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, ms) in
            [("5s", 5000), ("100ms", 100), ("1m30s", 90_000), ("1.5s", 1500), ("0", 0), ("7", 7000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration("1h2m3s4ms"), Ok(Duration::from_millis(3_723_004)));
        assert_eq!(duration("3us"), Ok(Duration::from_micros(3)));
        for text in ["", "s", "-1s", "5x", "1s5", "5 s", ".", "1..2s", "nan", "inf"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_docker_does() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("67108864", 64 << 20),
            ("60M", 60 << 20),
            ("60mb", 60 << 20),
            ("1.5g", 3 << 29),
            ("512KiB", 512 << 10),
            ("10b", 10),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "-2", "M", "1x", "1ib", "9223372036854775808", "1e3", "8192p"] {
            assert!(memory_bytes(text).is_err(), "{text}");
        }
    }
}
