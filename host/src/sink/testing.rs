//! What tests of encoders share.

use std::sync::Arc;

use crate::event::{Batch, Field, Kind};
use crate::mock::{Generator, LogType};

/// About 256 KiB of nginx's lines, parsed as the plugin does.
pub fn nginx() -> Batch {
    let names = [
        ("remote_addr", " - "),
        ("remote_user", " ["),
        ("time_local", "] \""),
        ("request_method", " "),
        ("request_uri", " "),
        ("server_protocol", "\" "),
        ("status", " "),
        ("body_bytes_sent", " \""),
        ("http_referer", "\" \""),
        ("http_user_agent", "\" \""),
        ("http_x_forwarded_for", "\""),
    ];
    let kind = |name| if matches!(name, "status" | "body_bytes_sent") { Kind::Integer } else { Kind::Text };
    let mut batch = Batch {
        fields: names.map(|(name, _)| Field { name: name.into(), kind: kind(name) }).into(),
        tags: Arc::new(vec![("path".into(), "/var/log/nginx/access.log".into()), ("host".into(), "node-1".into())]),
        ..Batch::default()
    };
    let mut generator = Generator::new(LogType::Nginx, 1);
    while batch.arena.len() < 256 << 10 {
        let mut at = batch.arena.len();
        generator.next(&mut batch.arena);
        for (field, (_, end)) in (0..).zip(&names) {
            let value = memchr::memmem::find(&batch.arena[at..], end.as_bytes()).expect("a line of nginx's");
            batch.cells.extend([field, at as u32, (at + value) as u32]);
            at += value + end.len();
        }
        batch.rows.push(batch.cells.len() as u32 / 3);
        batch.times.push(1_700_000_000_000_000_000 + batch.rows.len() as i64 / 9 * 1_000_000_000);
    }
    batch.check().expect("a sound batch");
    batch
}
