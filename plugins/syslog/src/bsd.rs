//! RFC 3164: `Oct 11 22:14:15 host app[10]: message`, and what else is found in files.

use weir_plugin::moment::{Moment, Years, Zone};
use weir_plugin::prelude::*;
use weir_plugin::scan::{equal, find, find4};
use weir_plugin::time::{Cached, Format, has_offset};

/// Bytes of `Oct 11 22:14:15`.
const SHORT: usize = 15;

/// The parser, with its fields.
pub struct Bsd {
    years: Years,
    /// The time without a year that was read last.
    last: Option<([u8; SHORT], Moment)>,
    with_year: Cached,
    rfc3339: Cached,
    timestamp: FieldId,
    hostname: FieldId,
    appname: FieldId,
    procid: FieldId,
    message: FieldId,
}

impl Bsd {
    pub fn new(year: Option<u16>, zone: Zone, fields: &mut Fields) -> Self {
        let mut text = |name| fields.add(name, Kind::Text);
        Bsd {
            years: Years { year, zone },
            last: None,
            with_year: Cached::new(Format::known("%b %e %Y %T")),
            rfc3339: Cached::new(Format::Rfc3339),
            timestamp: text("timestamp"),
            hostname: text("hostname"),
            appname: text("appname"),
            procid: text("procid"),
            message: text("message"),
        }
    }

    /// Puts the values of what stands behind the priority, `data[at..end]`; `known` is the time that the event has.
    #[inline]
    pub fn read(
        &mut self,
        data: &[u8],
        at: usize,
        end: usize,
        known: Option<i64>,
        row: &mut Row,
    ) -> Result<(), &'static str> {
        let mut at = self.time(data, at, end, known, row).ok_or("no timestamp")?;
        // Cisco's devices write a colon behind the time, and no host.
        at += usize::from(at < end && data[at] == b':');
        at += usize::from(at < end && data[at] == b' ');
        let word = find(data, at, end, b' ').unwrap_or(end);
        let is_tag = word > at && (data[word - 1] == b':' || data[word - 1] == b']');
        if !is_tag && word < end {
            row.span(self.hostname, at, word);
            at = word + 1;
        }
        let at = self.tag(data, at, end, row);
        row.span(self.message, at, end);
        Ok(())
    }

    /// Puts the time, and says where it ends; none if there is none.
    #[inline]
    fn time(&mut self, data: &[u8], at: usize, end: usize, known: Option<i64>, row: &mut Row) -> Option<usize> {
        let short = data.get(at..at + SHORT).filter(|_| at + SHORT <= end)?;
        let (moment, stop) = match &self.last {
            Some((text, moment))
                if equal(text, short) && !matches!(data[at + SHORT..end].first(), Some(b'.' | b',')) =>
            {
                (*moment, at + SHORT)
            }
            _ if short[0].is_ascii_digit() => return self.time_rfc3339(data, at, end, row),
            _ => match self.moment(data, at, end) {
                Some(found) => found,
                None => return self.time_with_year(data, at, end, row),
            },
        };
        if let Some(time) = self.years.time(moment, known) {
            row.time(time);
        }
        row.span(self.timestamp, at, stop);
        Some(stop)
    }

    #[inline(never)]
    fn moment(&mut self, data: &[u8], at: usize, end: usize) -> Option<(Moment, usize)> {
        let digits = |from: usize| data[from..end].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut stop = at + SHORT;
        if matches!(data[stop..end].first(), Some(b'.' | b',')) && digits(stop + 1) > 0 {
            stop += 1 + digits(stop + 1);
        }
        let moment = Moment::bsd(&data[at..stop])?;
        if stop == at + SHORT {
            self.last = Some((data[at..stop].try_into().ok()?, moment));
        }
        Some((moment, stop))
    }

    /// `Oct 11 2003 22:14:15`.
    fn time_with_year(&mut self, data: &[u8], at: usize, end: usize, row: &mut Row) -> Option<usize> {
        let stop = at + SHORT + " 2003".len();
        let time = self.with_year.read(data.get(at..stop).filter(|_| stop <= end)?)?;
        row.time(self.years.zone.to_utc(time));
        row.span(self.timestamp, at, stop);
        Some(stop)
    }

    fn time_rfc3339(&mut self, data: &[u8], at: usize, end: usize, row: &mut Row) -> Option<usize> {
        let stop = find(data, at, end, b' ').unwrap_or(end);
        let text = &data[at..stop];
        let time = self.rfc3339.read(text)?;
        row.time(if has_offset(text) { time } else { self.years.zone.to_utc(time) });
        row.span(self.timestamp, at, stop);
        Some(stop)
    }

    /// Puts `app[10]: ` or `app: `, and says where the message begins.
    #[inline]
    fn tag(&self, data: &[u8], at: usize, end: usize, row: &mut Row) -> usize {
        let Some(stop) = find4(data, at, end, *b":[  ").filter(|stop| *stop > at) else { return at };
        let after = match data[stop] {
            b':' => stop + 1,
            b'[' => match find(data, stop, end, b']') {
                Some(close) => {
                    row.span(self.appname, at, stop);
                    row.span(self.procid, stop + 1, close);
                    let after = close + 1 + usize::from(data[close + 1..end].first() == Some(&b':'));
                    return after + usize::from(data[after..end].first() == Some(&b' '));
                }
                None => return at,
            },
            _ => return at,
        };
        row.span(self.appname, at, stop);
        after + usize::from(data[after..end].first() == Some(&b' '))
    }
}
