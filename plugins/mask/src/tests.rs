use proptest::prelude::*;
use serde_json::json;
use weir_plugin::testing::{golden, ndjson, run};

use super::Mask;

fn with(rules: serde_json::Value, line: &str) -> String {
    let settings = json!({ "rules": rules, "key": "a key of 16 bytes" }).to_string();
    let events = run::<Mask>(&settings, &[line]).unwrap_or_else(|e| panic!("{settings}: {e}"));
    assert_eq!(events[0].error, None);
    events[0].get("content").unwrap().to_owned()
}

fn expect(find: &str, cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(with(json!([{ "find": find }]), line), *expected, "{find}");
    }
}

#[test]
fn golden_files() {
    golden::<Mask>("mask", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn cards() {
    expect(
        "card",
        &[
            ("pan=4111111111111111;", "pan=***;"),
            ("4111-1111-1111-1111 and 5500 0000 0000 0004", "*** and ***"),
            ("378282246310005", "***"),
            ("4111111111111112", "4111111111111112"),
            ("1714564800123", "1714564800123"),
            ("77 4111 1111 1111 1111 12", "77 *** 12"),
            ("PAN4111111111111111", "PAN***"),
            ("4111111111111111abc", "***abc"),
            ("41111111111111114111111111111111", "41111111111111114111111111111111"),
            ("4111  1111 1111 1111", "4111  1111 1111 1111"),
            ("", ""),
        ],
    );
}

#[test]
fn addresses() {
    expect(
        "email",
        &[
            ("mail from <a.b+c@example.co.uk>, to x@y", "mail from <***>, to x@y"),
            ("ä@example.com. o'neil@a.io müller@x.com", "***. *** ***"),
            ("to='jo@x.com' Nguyễn@x.vn 用户jo@x.com", "to='***' *** 用户***"),
            ("jo%2Btag@x.com %20jo@x.com 5%jo@x.com M%C3%BCller@x.com", "*** %20*** *** ***"),
            (
                r"\njo@x.com \u000ajo@x.com m\u00fcller@x.com D\\njo@x.com \'jo@x.com",
                r"\n*** \u000a*** *** D\\*** \'***",
            ),
            ("jo@x.com@y.com a@-x.com a@x-.com a@x.com-", "***@y.com a@-x.com a@x-.com ***-"),
            ("user=jo@example.com.", "user=***."),
            ("@example.com a@b.c@d.e", "@example.com ***@d.e"),
        ],
    );
    expect(
        "ip",
        &[
            ("10.0.0.1:80 -> [2001:db8::1]:443, 1.2.3.4.5 999.1.1.1", "***:80 -> [***]:443, ***.5 999.1.1.1"),
            ("::1 is ::ffff:10.0.0.1.", "*** is ***."),
            ("at 12:34:56, std::string a::b fe80::1%eth0", "at 12:34:56, std::string a::b ***%eth0"),
            ("v1.2.3.4 01.02.03.04", "v1.2.3.4 01.02.03.04"),
            (
                "dead:beef::cafe ::bad:face:ed dead::beef add::bed de:ad:be:ef:ca:fe",
                "*** *** dead::beef add::bed de:ad:be:ef:ca:fe",
            ),
        ],
    );
}

#[test]
fn an_escape_is_no_part_of_the_word_behind_it() {
    let card = "4111111111111111";
    for escape in [r"\n", r"\r", r"\t", r"\b", r"\f", r"\u0020", r"\u000a", r"\u00e2", "%20", "%0A", "%e2", "%5c"] {
        for (find, secret) in [
            ("card", card),
            ("ip", "10.0.0.1"),
            ("ip", "fe80::1"),
            ("ip", "2001:db8::1"),
            ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"),
            ("aws_key", "AKIAIOSFODNN7EXAMPLE"),
        ] {
            let line = format!(r#"{{"msg":"pan:{escape}{secret}{escape}"}}"#);
            assert_eq!(with(json!([{ "find": find }]), &line), format!(r#"{{"msg":"pan:{escape}***{escape}"}}"#));
        }
        let line = format!("{escape}Bearer abcdef{escape}");
        assert_eq!(with(json!([{"find": "bearer"}]), &line), format!("{escape}Bearer ***{escape}"));
    }
    expect(
        "card",
        &[
            ("LIKE '%4111111111111111'", "LIKE '%***'"),
            (r"C:\new4111111111111111", r"C:\new***"),
            (r"\u20244111111111111112", r"\u20244111111111111112"),
        ],
    );
    expect("ip", &[("fe80::1%20", "***%20"), ("%fe80::1", "%***"), (r"\xfe80::1 \x10.0.0.1", r"\xfe80::1 \x10.0.0.1")]);
    expect("jwt", &[(r"\xeyJh.e.c", r"\xeyJh.e.c")]);
    expect(
        "aws_key",
        &[(
            r#""{\"aws_secret_access_key\":\"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\"}""#,
            r#""{\"aws_secret_access_key\":\"***\"}""#,
        )],
    );
}

#[test]
fn numbers_in_hashes_and_uuids_are_no_cards() {
    for id in [
        "dead4111111111111111beef",
        "4111111111111111deadbeefdeadbeefdeadbeef",
        "550e8400-e29b-41d4-5500-000000000004",
        "id-550e8400-e29b-41d4-5500-000000000004",
    ] {
        expect("card", &[(id, id)]);
    }
    expect(
        "card",
        &[
            ("ead4111111111111111beef", "ead***beef"),
            ("deadbeef4111111111111111deadbeeg", "deadbeef***deadbeeg"),
            ("550e8400-e29b-41d4-x500-4111111111111111", "550e8400-e29b-41d4-x500-***"),
        ],
    );
}

#[test]
fn tokens() {
    expect(
        "bearer",
        &[
            ("Authorization: Bearer abc.DEF-123_=", "Authorization: Bearer ***"),
            ("authorization=basic dXNlcjpwYXNz rest", "authorization=basic *** rest"),
            ("bearer of news, forbearer abcdefgh", "bearer of news, forbearer abcdefgh"),
        ],
    );
    expect("jwt", &[("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln&x", "t=***&x"), ("eyJ.x", "eyJ.x")]);
    expect(
        "aws_key",
        &[
            ("AKIAIOSFODNN7EXAMPLE", "***"),
            (
                r#"{"aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}"#,
                r#"{"aws_secret_access_key": "***"}"#,
            ),
            ("AKIAIOSFODNN7EXAMPLE1", "AKIAIOSFODNN7EXAMPLE1"),
        ],
    );
}

#[test]
fn actions() {
    let card = "4111-1111-1111-1111";
    assert_eq!(with(json!([{"find": "card", "action": "keep_last"}]), card), "****-****-****-1111");
    assert_eq!(with(json!([{"find": "card", "action": "keep_last", "last": 0}]), card), "****-****-****-****");
    assert_eq!(with(json!([{"find": "card", "action": "keep_last", "last": 99}]), card), "****-****-1111-1111");
    assert_eq!(with(json!([{"find": "whole", "action": "keep_last", "last": 2}]), "grüße!"), "***ße!");
    assert_eq!(with(json!([{"find": "whole", "action": "keep_last", "last": 2}]), "größe"), "***ße");
    assert_eq!(with(json!([{"find": "card", "with": ""}]), card), "");
    // printf 4111-1111-1111-1111 | openssl dgst -sha256 -hmac 'a key of 16 bytes'
    assert_eq!(with(json!([{"find": "card", "action": "hash"}]), card), HASHED);
}

const HASHED: &str = "9be747bf8267e9cd9dff742b15870bc0";

#[test]
fn own_patterns_and_their_group() {
    assert_eq!(
        with(json!([{"pattern": "password=(\\S+)"}]), "a password=x&y password=z"),
        "a password=*** password=***"
    );
    assert_eq!(with(json!([{"pattern": "[0-9]{3}"}]), "123456 78"), "****** 78");
    assert_eq!(with(json!([{"pattern": "x*"}]), "axxb"), "a***b");
}

#[test]
fn places_that_overlap_are_masked_by_the_earlier_rule() {
    let rules =
        json!([{"pattern": "bc", "with": "1"}, {"pattern": "abcd", "with": "2"}, {"pattern": "de", "with": "3"}]);
    assert_eq!(with(rules, "xabcdex bc abc"), "x1x 1 a1");
    let nested = json!([{"find": "whole", "with": "1"}, {"find": "card"}]);
    assert_eq!(with(nested, "a 4111111111111111 b"), "1");
}

#[test]
fn only_named_fields_are_looked_at() {
    let settings = r#"{"rules":[{"find":"whole","fields":["password","pin"]},{"find":"ip"}]}"#;
    let event =
        r#"{"user":"jo","password":"secret","pin":1234,"peer":"10.0.0.1","context":{"ip":"10.0.0.2","n":1},"n":5}"#;
    assert_eq!(
        ndjson::<Mask>("mask", settings, &[event]).unwrap(),
        [r#"{"user":"jo","password":"***","pin":"***","peer":"***","context":{"ip":"***","n":1},"n":5}"#]
    );
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{"rules":[]}"#, "rules: give at least one"),
        (r#"{}"#, "missing field `rules`"),
        (r#"{"rules":[{}]}"#, "rules[0]: give either find or pattern"),
        (r#"{"rules":[{"find":"ip","pattern":"x"}]}"#, "rules[0]: give either find or pattern"),
        (r#"{"rules":[{"find":"ip"},{"pattern":"("}]}"#, "rules[1]: pattern: regex parse error"),
        (r#"{"rules":[{"find":"ip","action":"hash"}]}"#, "rules[0]: the action hash needs a key of 16 bytes or more"),
        (r#"{"rules":[{"find":"ip","action":"hash","with":"x"}]}"#, "rules[0]: with: only the action replace has it"),
        (r#"{"rules":[{"find":"ip","last":1}]}"#, "rules[0]: last: only the action keep_last has it"),
        (r#"{"rules":[{"find":"name"}]}"#, "unknown variant `name`"),
        (r#"{"rules":[{"find":"ip","feilds":[]}]}"#, "unknown field `feilds`"),
    ] {
        let error = run::<Mask>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

/// The check digit, as its inventor describes it.
fn luhn(digits: &[u32]) -> bool {
    let mut sum = 0;
    for (i, digit) in digits.iter().enumerate() {
        sum += if (digits.len() - i).is_multiple_of(2) { digit * 2 / 10 + digit * 2 % 10 } else { *digit };
    }
    sum.is_multiple_of(10)
}

proptest! {
    #[test]
    fn digits_are_masked_if_they_are_a_card(digits in "[1-7][0-9]{10,20}") {
        let values: Vec<_> = digits.chars().map(|c| c.to_digit(10).unwrap()).collect();
        let is_card = (13..=19).contains(&digits.len()) && (2..=6).contains(&values[0]) && luhn(&values);
        let line = format!("a {digits}.");
        prop_assert_eq!(with(json!([{"find": "card"}]), &line), if is_card { "a ***.".to_owned() } else { line });
    }

    #[test]
    fn addresses_are_found_wherever_they_are(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, before in "[ ,(=]", after in "[ ,)/]") {
        let line = format!("x{before}{v4}{after}y{before}{v6}{after}");
        let expected = format!("x{before}***{after}y{before}***{after}");
        let v6_text = v6.to_string();
        prop_assume!(v6_text.contains(|c: char| c.is_ascii_digit()) || v6_text.matches(':').count() >= 3);
        prop_assert_eq!(with(json!([{"find": "ip"}]), &line), expected);
    }

    /// What is not found stays as it is; nothing panics.
    #[test]
    fn the_rest_stays(line in "([a-z .:@-]{0,8}|[0-9]{0,20}|é|eyJ|::|AKIA|Bearer ){0,8}") {
        let all = json!(["card", "email", "ip", "bearer", "jwt", "aws_key"].map(|find| json!({"find": find, "with": "\u{1}"})));
        let masked = with(all, &line);
        let mut rest = line.as_str();
        for (i, part) in masked.split('\u{1}').enumerate() {
            let at = rest.find(part);
            prop_assert!(at.is_some() && (i > 0 || at == Some(0)), "{:?} of {:?}", part, line);
            rest = &rest[at.unwrap() + part.len()..];
        }
    }
}
