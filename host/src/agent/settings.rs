//! What the configuration says, in the words of those who do it.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::config;
use crate::event::Tags;
use crate::sandbox::{Limits, OnFault};
use crate::source;
use crate::source::decode::{self, Decoder};
use crate::source::framing::multiline::{Patterns, Rule};
use crate::source::framing::{self, Framing};

/// What a plugin may use.
pub fn limits(limits: &config::Limits) -> Limits {
    Limits {
        fuel_base: limits.fuel_base,
        fuel_per_byte: limits.fuel_per_byte,
        configure_fuel: limits.configure_fuel,
        memory: limits.memory as usize,
        table_elements: limits.table_elements as usize,
        instances: limits.instances as usize,
        output_bytes: limits.output_bytes as usize,
        output_events: limits.output_events as usize,
        held_bytes: limits.held_bytes as usize,
        fields: limits.fields as usize,
        field_name: limits.field_name as usize,
        reason: limits.reason as usize,
        log_lines_per_second: limits.log_lines_per_second as u32,
        log_line: limits.log_line as usize,
        counters: limits.counters as usize,
    }
}

/// What becomes of events on which a plugin faults.
pub fn on_fault(on_fault: config::OnFault) -> OnFault {
    match on_fault {
        config::OnFault::Raw => OnFault::Raw,
        config::OnFault::Drop => OnFault::Drop,
        config::OnFault::Hold => OnFault::Hold,
    }
}

/// How a logstore's files are read.
pub fn source(files: &config::Files, tags: Arc<Tags>) -> Result<source::Settings> {
    let multiline = files.multiline.as_ref().map(|multiline| {
        let patterns = match &multiline.patterns {
            config::Patterns::Start(start) => Patterns::Start(start.clone()),
            config::Patterns::StartContinue(start, more) => Patterns::StartContinue(start.clone(), more.clone()),
            config::Patterns::End(end) => Patterns::End(end.clone()),
        };
        Rule::new(&patterns, multiline.max_lines)
    });
    Ok(source::Settings {
        root: files.root.clone(),
        include: files.include.clone(),
        exclude: files.exclude.clone(),
        from: match files.from {
            config::StartAt::Beginning => source::StartAt::Beginning,
            config::StartAt::End => source::StartAt::End,
        },
        poll_interval: files.poll_interval,
        decoder: decoder(files)?,
        framing: Framing {
            format: match files.format {
                config::Format::Lines => framing::Format::Lines,
                config::Format::Cri => framing::Format::Cri,
                config::Format::Docker => framing::Format::Docker,
            },
            max_event: files.max_line,
            long: match files.long_lines {
                config::LongEvent::Split => framing::LongEvent::Split,
                config::LongEvent::Truncate => framing::LongEvent::Truncate,
                config::LongEvent::Skip => framing::LongEvent::Skip,
            },
            multiline: multiline.transpose()?,
            flush_after: files.flush_after,
        },
        ignore_older: files.ignore_older,
        rotated: source::Rotated {
            wait: files.rotated.wait,
            max_files: files.rotated.max_files,
            max_size: files.rotated.max_size,
        },
        max_open: files.max_open_files,
        tags,
    })
}

fn decoder(files: &config::Files) -> Result<Decoder> {
    let invalid = match files.invalid {
        config::Invalid::Replace => decode::Invalid::Replace,
        config::Invalid::Keep => decode::Invalid::Keep,
    };
    Decoder::new(files.encoding, invalid).with_context(|| format!("the encoding {}", files.encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_the_sandboxs_default() {
        assert_eq!(limits(&config::Limits::default()), Limits::default());
    }
}
