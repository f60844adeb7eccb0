//! Sizes and shares from any text.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_size_in_bytes_is_what_was_written(bytes in 1..=RAM_MAX) {
        prop_assert_eq!(format!("{bytes}b").parse(), Ok(Ram::Limited(bytes)));
        let mib = bytes % (RAM_MAX / MIB) + 1;
        prop_assert_eq!(mib.to_string().parse(), Ok(Ram::Limited(mib * MIB)));
        prop_assert_eq!(Ram::Limited(bytes).as_spec_limit(), i64::try_from(bytes).unwrap());
    }

    #[test]
    fn no_garbage_is_a_size(text in "\\PC*|[0-9.]{0,12}[a-zA-Z%. +-]{0,4}") {
        match text.parse::<Ram>() {
            Ok(Ram::Limited(bytes)) => {
                prop_assert!(bytes > 0 && bytes <= RAM_MAX);
                prop_assert!(text.starts_with(|c: char| c.is_ascii_digit()));
                prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'));
            }
            Ok(Ram::Unlimited) => prop_assert!(text.eq_ignore_ascii_case("max")),
            Err(error) => {
                let quoted = format!("'{text}'");
                prop_assert!(error.to_string().contains(&quoted));
            }
        }
    }

    #[test]
    fn no_garbage_is_a_share(text in "\\PC*|[0-9.]{0,12}[a-z%. +-]{0,2}") {
        match text.parse::<CpuShare>() {
            Ok(CpuShare::Limited { quota_us }) => {
                prop_assert!(quota_us >= CPU_QUOTA_MIN_US);
                let percent: f64 = text.trim_end_matches('%').parse().unwrap();
                prop_assert!((percent * 1000.0 - quota_us as f64).abs() <= 1.0 + percent / 1e6, "{} {}", percent, quota_us);
            }
            Ok(CpuShare::Unlimited) => prop_assert!(text.eq_ignore_ascii_case("max")),
            Err(error) => {
                let quoted = format!("'{text}'");
                prop_assert!(error.to_string().contains(&quoted));
            }
        }
    }

    #[test]
    fn mib_are_off_by_half_a_digit_at_most(bytes in any::<u64>()) {
        let text = Mib(bytes).to_string();
        let shown: f64 = text.strip_suffix(" MiB").unwrap().parse().unwrap();
        let exact = bytes as f64 / MIB as f64;
        prop_assert!((shown - exact).abs() <= 0.056 + exact / 1e12, "{} for {}", text, bytes);
    }
}
