//! Reports in JUnit's XML, which CI systems read.

use anyhow::Result;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::report::{Check, Report, Said, Verdict};

/// All reports as one document. It has no times, so that it is the same each time.
pub fn junit(reports: &[Report]) -> Result<Vec<u8>> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let failed: usize = reports.iter().map(Report::failed).sum();
    let tests: usize = reports.iter().map(|report| report.checks().count()).sum();
    let counts = [("tests", tests.to_string()), ("failures", failed.to_string())];
    begin(&mut xml, "testsuites", &counts)?;
    for report in reports {
        suite(&mut xml, report)?;
    }
    end(&mut xml, "testsuites")?;
    let mut document = xml.into_inner();
    document.push(b'\n');
    Ok(document)
}

type Xml = Writer<Vec<u8>>;

fn suite(xml: &mut Xml, report: &Report) -> Result<()> {
    let skipped = report.checks().filter(|check| check.verdict == Verdict::Skipped).count();
    let attributes = [
        ("name", report.plugin.clone()),
        ("tests", report.checks().count().to_string()),
        ("failures", report.failed().to_string()),
        ("skipped", skipped.to_string()),
    ];
    begin(xml, "testsuite", &attributes)?;
    for (class, checks) in [("cases", &report.cases), ("manners", &report.manners)] {
        for check in checks {
            case(xml, &format!("{}.{class}", report.plugin), check)?;
        }
    }
    end(xml, "testsuite")
}

fn case(xml: &mut Xml, class: &str, check: &Check) -> Result<()> {
    begin(xml, "testcase", &[("classname", class.to_owned()), ("name", check.name.clone())])?;
    match check.verdict {
        Verdict::Failed => {
            let lines: Vec<_> = check.details.iter().map(|line| line.text.as_str()).collect();
            element(xml, "failure", &[("message", check.note.clone())], &lines.join("\n"))?;
        }
        Verdict::Skipped => element(xml, "skipped", &[("message", check.note.clone())], "")?,
        Verdict::Passed | Verdict::Blessed => {}
    }
    if !check.log.is_empty() {
        let log: Vec<_> = check.log.iter().map(Said::labelled).collect();
        element(xml, "system-out", &[], &log.join("\n"))?;
    }
    end(xml, "testcase")
}

fn element(xml: &mut Xml, name: &str, attributes: &[(&str, String)], text: &str) -> Result<()> {
    begin(xml, name, attributes)?;
    xml.write_event(Event::Text(BytesText::new(&allowed(text))))?;
    end(xml, name)
}

fn begin(xml: &mut Xml, name: &str, attributes: &[(&str, String)]) -> Result<()> {
    let mut start = BytesStart::new(name);
    for (name, value) in attributes {
        start.push_attribute((*name, &*allowed(value)));
    }
    Ok(xml.write_event(Event::Start(start))?)
}

fn end(xml: &mut Xml, name: &str) -> Result<()> {
    Ok(xml.write_event(Event::End(BytesEnd::new(name)))?)
}

/// Without the characters that XML has no way to write.
fn allowed(text: &str) -> String {
    let is_allowed = |c: &char| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().filter(is_allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::{Line, Tone};
    use super::*;

    #[test]
    fn a_report_is_a_document_that_escapes_all() {
        let mut report = Report::new("own");
        report.cases.push(Check::new("a", Verdict::Passed, "1 in, 1 out".to_owned()));
        let said = Said { level: "warn", text: "<&\u{fffe}\u{1}>".to_owned(), times: 2 };
        report.cases.push(Check {
            details: vec![Line::new(Tone::Missing, "- {\"a\":\"]]>\"}".to_owned())],
            log: vec![said],
            ..Check::new("b\"", Verdict::Failed, "not <as> it should".to_owned())
        });
        report.manners.push(Check::new("split", Verdict::Skipped, "why & why".to_owned()));
        let text = String::from_utf8(junit(&[report]).unwrap()).unwrap();
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1">
  <testsuite name="own" tests="3" failures="1" skipped="1">
    <testcase classname="own.cases" name="a">
    </testcase>
    <testcase classname="own.cases" name="b&quot;">
      <failure message="not &lt;as&gt; it should">- {&quot;a&quot;:&quot;]]&gt;&quot;}</failure>
      <system-out>log warn: &lt;&amp;&gt; (2 times)</system-out>
    </testcase>
    <testcase classname="own.manners" name="split">
      <skipped message="why &amp; why"></skipped>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(text, expected);
    }
}
