//! What a scalar without quotes is, by YAML's core schema.

use super::raw::{Text, Value};

/// The value; none if it is an integer that does not fit.
pub fn plain(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match digits(text) {
            Some((digits, radix)) => {
                let magnitude = i128::from_str_radix(digits, radix).ok()?;
                let integer = if text.starts_with('-') { -magnitude } else { magnitude };
                let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&integer);
                fits.then_some(Value::Integer(integer))?
            }
            None => match float(text) {
                Some(float) => Value::Float(float),
                None => Value::Text(Text { text: text.to_owned(), typed: None }),
            },
        },
    })
}

/// The digits of an integer, without sign and prefix, and their radix.
fn digits(text: &str) -> Option<(&str, u32)> {
    let (digits, radix) = if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        (digits, 8)
    } else {
        (text.strip_prefix(['-', '+']).unwrap_or(text), 10)
    };
    (!digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))).then_some((digits, radix))
}

fn float(text: &str) -> Option<f64> {
    match text.strip_prefix(['-', '+']).unwrap_or(text) {
        ".inf" | ".Inf" | ".INF" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        unsigned if unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match plain(text) {
            None => "does not fit".into(),
            Some(Value::Text(text)) => text.shown(),
            Some(value) => format!("{value:?}"),
        }
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let cases = [
            ("", "Null"),
            ("~", "Null"),
            ("NULL", "Null"),
            ("True", "Bool(true)"),
            ("false", "Bool(false)"),
            ("1", "Integer(1)"),
            ("+007", "Integer(7)"),
            ("0x1F", "Integer(31)"),
            ("0o17", "Integer(15)"),
            ("-9223372036854775808", "Integer(-9223372036854775808)"),
            ("-9223372036854775809", "does not fit"),
            ("18446744073709551615", "Integer(18446744073709551615)"),
            ("18446744073709551616", "does not fit"),
            (&"9".repeat(1000), "does not fit"),
            ("1.5", "Float(1.5)"),
            ("-.5", "Float(-0.5)"),
            ("1e3", "Float(1000.0)"),
            ("1e999", "Float(inf)"),
            ("-.inf", "Float(-inf)"),
            (".NaN", "Float(NaN)"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
        for text in ["yes", "1_0", "inf", "nan", "1.2.3", "0x", "-", "+", ".", "-0x1", "1 ", "١"] {
            assert_eq!(shown(text), format!("\"{text}\""));
        }
    }
}
