//! Numbers as people read them, in tables, on axes and in sentences.

use std::fmt::Display;

/// `1,234,567`, `-25,000`, `1,500.25`: the digits before the point in groups of three.
pub fn thousands(number: impl Display) -> String {
    let plain = number.to_string();
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let groups: Vec<String> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    format!("{sign}{}{rest}", groups.join(","))
}

/// A share from 0 to 1 to a tenth of a per cent: `98.0 %`. What is not quite none or all does not look so: `0.03 %`, `99.98 %`.
pub fn percent(share: f64) -> String {
    let from_end = share.min(1.0 - share);
    let decimals = match from_end {
        _ if from_end <= 0.0 || share.is_nan() => 1,
        _ if share < 0.001 || from_end < 0.00051 => 2.max((-2.0 - from_end.log10() - 1e-6).ceil() as usize),
        _ => 1,
    };
    format!("{:.*} %", decimals.min(12), 100.0 * share)
}

/// So many significant digits, however small the value is: `3.224`, `0.01234`, `1.204e-5`. For a loss, which never is exactly nothing.
pub fn digits(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value == 0.0 {
        return "0".into();
    }
    // What rounds up to the next power of ten has one digit more before the point.
    let power = format!("{:.*e}", digits.max(1) - 1, value.abs()).rsplit_once('e').and_then(|(_, power)| power.parse::<i32>().ok()).unwrap_or(0);
    if power < -3 {
        return format!("{value:.*e}", digits.max(1) - 1);
    }
    format!("{value:.*}", (digits as i32 - 1 - power).max(0) as usize)
}

/// A loss in four significant digits, as every line and page shows it: `3.224`, `0.003100`, `1.204e-5`.
pub fn loss(value: f64) -> String {
    digits(value, 4)
}

/// A time in three significant digits, or in whole seconds from a minute on: `4.23 ms`, `0.420 s`, `12.3 s`, `2 min 5 s`, `3 h 12 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        _ if !seconds.is_finite() || seconds < 0.0 => "–".into(),
        0.0 => "0 s".into(),
        // What would be written as the next unit's one is that.
        _ if seconds < 0.9995e-3 => format!("{} µs", digits(1e6 * seconds, 3)),
        _ if seconds < 0.09995 => format!("{} ms", digits(1e3 * seconds, 3)),
        _ if seconds < 59.95 => format!("{} s", digits(seconds, 3)),
        _ if whole < 3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("{} h {} min", thousands(minutes / 60), minutes % 60)
        }
    }
}

/// Up to three significant digits, without an exponent and without zeros at the end: `0.0312`, `2.5`, `4000`.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// So many significant digits, with zeros at the end, but at most four decimals; for columns: `47.5`, `1.00`, `0.0331`.
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    // What rounds up to the next power of ten has one digit more before the point.
    let nearly = 1.0 + 0.5 * 10f64.powi(-(digits as i32));
    let before = if value > 0.0 { (nearly * value).log10().floor() as i32 } else { 0 };
    format!("{value:.*}", (digits as i32 - 1 - before).clamp(0, 4) as usize)
}

/// A number in steps of a thousand and the prefix of the step: 1.5e9 is 1.5 and `G`. Below a thousand there is no prefix.
pub fn scaled(value: f64) -> (f64, &'static str) {
    // What would be written as 1000 is 1 of the next.
    let steps = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    steps.into_iter().find(|(scale, _)| value >= 0.9995 * scale).map_or((value, ""), |(scale, prefix)| (value / scale, prefix))
}

/// Bytes: `16 KiB`, `128 MiB`, `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value.fract() < 0.05 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567, -25_000].map(thousands), ["0", "999", "1,000", "1,234,567", "-25,000"]);
        assert_eq!([0.0, 100.0, 1500.0, 1e6, -25_000.0, 0.25].map(|value| thousands(number(value))), ["0", "100", "1,500", "1,000,000", "-25,000", "0.25"]);
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn shares_are_read_to_a_tenth_of_a_per_cent() {
        assert_eq!([0.0, 0.0001, 0.254, 0.9994, 1.0].map(percent), ["0.0 %", "0.01 %", "25.4 %", "99.9 %", "100.0 %"]);
        assert_eq!([0.0004, 0.000012, 0.9996, 0.99999].map(percent), ["0.04 %", "0.001 %", "99.96 %", "99.999 %"]);
    }

    #[test]
    fn a_small_loss_is_not_nothing() {
        for (value, four) in [
            (3.22361, "3.224"),
            (0.0123449, "0.01234"),
            (0.00099999, "0.001000"),
            (0.0012, "0.001200"),
            (1.2039e-5, "1.204e-5"),
            (9.99996, "10.00"),
            (123.456, "123.5"),
            (54_321.0, "54321"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(digits(value, 4), four);
        }
    }

    #[test]
    fn times_are_read_in_the_unit_that_suits_them() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (3.21e-6, "3.21 µs"),
            (0.000_999_6, "1.00 ms"),
            (0.00423, "4.23 ms"),
            (0.0999, "99.9 ms"),
            (0.09996, "0.100 s"),
            (0.42, "0.420 s"),
            (1.0, "1.00 s"),
            (12.34, "12.3 s"),
            (59.94, "59.9 s"),
            (59.96, "1 min 0 s"),
            (125.0, "2 min 5 s"),
            (3599.4, "59 min 59 s"),
            (3599.6, "1 h 0 min"),
            (11520.0, "3 h 12 min"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        assert_eq!([3.22361, 0.0031, 1.2039e-5].map(loss), ["3.224", "0.003100", "1.204e-5"]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(0.0, "0"), (0.01, "0.01"), (0.0312345, "0.0312"), (6.0, "6"), (2.5, "2.5"), (123.4, "123"), (4000.0, "4000"), (-0.284, "-0.284")]
        {
            assert_eq!(number(value), expected);
        }
        for (value, three, four) in
            [(0.03312, "0.0331", "0.0331"), (1234.5, "1234", "1234"), (0.0, "0.00", "0.000"), (9.999, "10.0", "9.999"), (f64::NAN, "–", "–")]
        {
            assert_eq!((significant(value, 3), significant(value, 4)), (three.into(), four.into()));
        }
    }

    #[test]
    fn large_numbers_have_prefixes() {
        let steps = [0.1, 999.4, 999.6, 1.234e11, 1e13].map(scaled).map(|(value, prefix)| format!("{} {prefix}", number(value)));
        assert_eq!(steps, ["0.1 ", "999 ", "1 k", "123 G", "10 T"]);
        assert_eq!([0, 16 << 10, (1 << 30) + (1 << 29), u64::MAX].map(bytes), ["0 bytes", "16 KiB", "1.5 GiB", "16777216 TiB"]);
    }
}
