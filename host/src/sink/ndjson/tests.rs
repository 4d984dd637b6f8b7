use super::super::compress::Compression;
use super::*;
use crate::event::Mark;
use crate::event::testing::raw;

fn encode(batch: &Batch) -> String {
    String::from_utf8(Ndjson::default().lines(batch).as_slice().to_vec()).expect("UTF-8")
}

/// One event whose only cell is `bytes`.
fn cell(kind: Kind, bytes: &[u8]) -> Batch {
    Batch {
        arena: bytes.to_vec(),
        fields: vec![Field { name: "a".into(), kind }],
        rows: vec![1],
        cells: vec![0, 0, bytes.len() as u32],
        ..Batch::default()
    }
}

#[test]
fn an_event_has_its_cells_then_time_error_and_tags() {
    let mut batch = raw(&["one", "two \"x\""], 0);
    batch.times = vec![1_136_214_245_250_000_000, UNKNOWN_TIME];
    batch.marks = vec![Mark { event: 1, reason: "p: no\n".into() }];
    batch.tags = Arc::new(vec![("path".into(), "/a\"b".into()), ("host".into(), "h".into())]);
    assert_eq!(
        encode(&batch),
        "{\"content\":\"one\",\"__time__\":\"2006-01-02T15:04:05.25Z\",\"__tags__\":{\"path\":\"/a\\\"b\",\"host\":\"h\"}}\n\
         {\"content\":\"two \\\"x\\\"\",\"__error__\":\"p: no\\n\",\"__tags__\":{\"path\":\"/a\\\"b\",\"host\":\"h\"}}\n"
    );
}

#[test]
fn events_are_the_elements_of_an_array() {
    let batch = raw(&["one", "two", "three"], 0);
    let mut records = Records { wants_ends: true, ..Records::default() };
    let mut encoder = Ndjson::array();
    assert_eq!(encoder.encode(&batch, 0, Room::ALL, &mut records), 3);
    let body = records.seal(encoder.wrap(), Compression::None);
    let plain = body.layout.plain(body.bytes.as_slice()).unwrap();
    assert_eq!(plain, "[ {\"content\":\"one\"}\n,{\"content\":\"two\"}\n,{\"content\":\"three\"}\n]\n");
    let first = body.layout.part([0], &plain);
    assert_eq!(first.bytes.as_slice(), b"[ {\"content\":\"one\"}\n]\n");
    let rest = body.layout.part([1, 2], &plain);
    assert_eq!(rest.bytes.as_slice(), b"[ {\"content\":\"two\"}\n,{\"content\":\"three\"}\n]\n");
}

/// Two fields `a`, one of them an integer, and others whose names members have.
fn twins() -> Batch {
    let field = |name: &str, kind| Field { name: name.into(), kind };
    let names = ["a_2", "__tags__", "@timestamp"].map(|name| field(name, Kind::Text));
    Batch {
        arena: b"1x".to_vec(),
        fields: [vec![field("a", Kind::Text), field("a", Kind::Integer)], names.into()].concat(),
        rows: vec![4, 6, 7, 8],
        cells: vec![0, 1, 2, 1, 0, 1, 2, 1, 2, 0, 0, 1, 3, 1, 2, 4, 1, 2, 1, 0, 1, 0, 1, 1],
        times: vec![0; 4],
        tags: Arc::new(vec![("k".into(), "v\"".into())]),
        ..Batch::default()
    }
}

#[test]
fn names_are_unique_where_they_have_to_be() {
    let style = Style { time: "@timestamp".into(), names_are_unique: true, ..Style::default() };
    let out = Ndjson::with(style).lines(&twins());
    let (time, tags) = (",\"@timestamp\":\"1970-01-01T00:00:00Z\"", ",\"__tags__\":{\"k\":\"v\\\"\"}}\n");
    let expected = format!(
        "{{\"a\":\"x\",\"a_3\":1,\"a_2\":\"x\",\"a_4\":\"1\"{time}{tags}\
         {{\"__tags___2\":\"x\",\"@timestamp\":\"x\"{tags}{{\"a\":1{time}{tags}{{\"a\":\"\"{time}{tags}"
    );
    assert_eq!(String::from_utf8_lossy(out.as_slice()), expected);
}

#[test]
fn a_style_has_its_own_names_and_writes_something_before_each_event() {
    let mut batch = raw(&["one", "two"], 0);
    batch.times = vec![0, UNKNOWN_TIME];
    batch.tags = Arc::new(vec![("k".into(), "v\"".into()), ("l".into(), "w".into())]);
    let style = Style {
        before: b"{\"create\":{}}\n".to_vec(),
        time: "t".into(),
        is_always_timed: true,
        tags: "labels".into(),
        tags_as: TagsAs::Text,
        names_are_unique: true,
    };
    let before = now();
    let out = Ndjson::with(style).lines(&batch);
    let text = String::from_utf8_lossy(out.as_slice()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let tags = r#""labels":"{\"k\":\"v\\\"\",\"l\":\"w\"}"}"#;
    assert_eq!([lines[0], lines[2]], ["{\"create\":{}}"; 2]);
    assert_eq!(lines[1], format!("{{\"content\":\"one\",\"t\":\"1970-01-01T00:00:00Z\",{tags}"));
    let two: serde_json::Value = serde_json::from_str(lines[3]).unwrap();
    let time: jiff::Timestamp = two["t"].as_str().unwrap().parse().unwrap();
    assert!((before..=now()).contains(&(time.as_nanosecond() as i64)), "{time}");
    assert!(lines[3].ends_with(tags), "{}", lines[3]);
}

#[test]
fn a_batch_that_has_no_room_is_encoded_in_parts() {
    let mut batch = raw(&["a", "b", "c", "d"], 0);
    batch.marks = [1, 3].map(|event| Mark { event, reason: "no".into() }).into();
    let whole = encode(&batch);
    for room in [Room { bytes: 1, events: 9 }, Room { bytes: 30, events: 9 }, Room { bytes: 999, events: 3 }] {
        let (mut parts, mut from) = (String::new(), 0);
        let mut encoder = Ndjson::default();
        while from < batch.len() {
            let mut records = Records::default();
            from = encoder.encode(&batch, from, room, &mut records);
            assert!(records.events > 0 && records.events <= room.events);
            parts.push_str(std::str::from_utf8(records.bytes.as_slice()).unwrap());
        }
        assert_eq!(parts, whole);
    }
}

#[test]
fn an_event_without_cells_is_an_empty_object() {
    let batch = Batch { rows: vec![0, 0], ..Batch::default() };
    assert_eq!(encode(&batch), "{}\n{}\n");
    let tagged = Batch { tags: Arc::new(vec![("k".into(), "v".into())]), ..batch };
    assert_eq!(encode(&tagged), "{\"__tags__\":{\"k\":\"v\"}}\n".repeat(2));
}

#[test]
fn a_kind_is_kept_only_where_it_is_true() {
    for (kind, bytes, expected) in [
        (Kind::Integer, "0", "0"),
        (Kind::Integer, "-12", "-12"),
        (Kind::Integer, "123456789012345678901234567890", "123456789012345678901234567890"),
        (Kind::Integer, "012", "\"012\""),
        (Kind::Integer, "-", "\"-\""),
        (Kind::Integer, "", "\"\""),
        (Kind::Integer, "1.5", "\"1.5\""),
        (Kind::Integer, "1,\"x\":2", "\"1,\\\"x\\\":2\""),
        (Kind::Float, "1.5e-7", "1.5e-7"),
        (Kind::Float, "1", "1"),
        (Kind::Float, "1.", "\"1.\""),
        (Kind::Float, "1e", "\"1e\""),
        (Kind::Float, ".5", "\".5\""),
        (Kind::Float, "NaN", "\"NaN\""),
        (Kind::Boolean, "true", "true"),
        (Kind::Boolean, "True", "\"True\""),
        (Kind::Json, "{\"a\": [1,\n2]}", "{\"a\": [1, 2]}"),
        (Kind::Json, "null", "null"),
        (Kind::Json, "{\"a\":", "\"{\\\"a\\\":\""),
        (Kind::Json, "1 2", "\"1 2\""),
        (Kind::Json, "[\"\\ud83e\\udd80\"]", "[\"\\ud83e\\udd80\"]"),
        (Kind::Json, "\"\\ud800\"", "\"\\\"\\\\ud800\\\"\""),
        (Kind::Json, "", "\"\""),
    ] {
        assert_eq!(encode(&cell(kind, bytes.as_bytes())), format!("{{\"a\":{expected}}}\n"), "{kind:?} {bytes}");
    }
}

#[test]
fn text_is_what_a_json_parser_reads_back() {
    // Every byte, at every place of a block, with something behind the cell that must not come out.
    for length in 0..40 {
        for place in 0..length.max(1) {
            for special in [b'"', b'\\', b'\n', 0, 0x1f, 0x7f, b'/', b'x'] {
                let mut bytes = vec![b'a'; length];
                if length > 0 {
                    bytes[place] = special;
                }
                let mut batch = cell(Kind::Text, &bytes);
                batch.arena.extend_from_slice(b"\"behind the cell, more than a block of it");
                let line: serde_json::Value = serde_json::from_str(&encode(&batch)).unwrap();
                assert_eq!(line["a"].as_str().unwrap().as_bytes(), bytes);
            }
        }
    }
}

#[test]
fn what_is_not_utf8_is_replaced_cell_by_cell() {
    let mut batch = cell(Kind::Text, "grün \u{1f980}".as_bytes());
    assert_eq!(encode(&batch), "{\"a\":\"grün \u{1f980}\"}\n");
    // A cell that cuts a character of sound text.
    batch.cells = vec![0, 0, 3];
    assert_eq!(encode(&batch), "{\"a\":\"gr\u{fffd}\"}\n");
    // A sound cell beside bytes that are not.
    batch.cells = vec![0, 0, 4, 0, 4, 7];
    batch.rows = vec![1, 2];
    batch.arena = b"gr\xc3\xbc \xff!".to_vec();
    assert_eq!(encode(&batch), "{\"a\":\"grü\"}\n{\"a\":\" \u{fffd}!\"}\n");
    assert_eq!(encode(&cell(Kind::Json, b"\"\xff\"")), "{\"a\":\"\\\"\u{fffd}\\\"\"}\n");
}

#[test]
fn times_before_the_epoch_and_fractions() {
    let mut clock = Clock::default();
    for (time, expected) in [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (i64::MIN + 1, "1677-09-21T00:12:43.145224193Z"),
        (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
    ] {
        assert_eq!(clock.member(time), format!(",\"__time__\":\"{expected}\"").as_bytes());
    }
}
