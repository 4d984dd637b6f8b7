//! Draws what is shown.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Row as TableRow, Table, TableState};

use super::view::{By, Kind, View, cores};
use crate::cli::screen::{Cell, Look, amount, on_one_line, since, size};

/// Draws all of it.
pub fn draw(frame: &mut Frame, view: &View) {
    let [head, totals, tabs, table, detail, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let rows = view.rows();
    let chosen = view.chosen.min(rows.len().saturating_sub(1));
    let said = rows.get(chosen).map(|row| on_one_line(&row.detail)).unwrap_or_default();
    frame.render_widget(Paragraph::new(head_line(view)), head);
    frame.render_widget(Paragraph::new(totals_line(view)), totals);
    frame.render_widget(Paragraph::new(tabs_line(view)), tabs);
    draw_table(frame, table, view, chosen);
    frame.render_widget(Paragraph::new(said).style(Style::new().fg(Color::Yellow)), detail);
    frame.render_widget(Paragraph::new(keys_line(view)), keys);
}

fn head_line(view: &View) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("weir", bold), Span::raw(format!(" at {}", view.address))];
    if let Some(now) = &view.now {
        let status = &now.status;
        spans.push(Span::raw(format!("  {}, up {}", on_one_line(&status.version), since(status.started_at))));
        let health = &status.health;
        let (word, look) = match (health.dead.is_empty(), health.unready.is_empty(), health.details.is_empty()) {
            (false, ..) => ("not alive", Look::Bad),
            (_, false, _) => ("not ready", Look::Warning),
            (.., false) => ("ready, with problems", Look::Warning),
            _ => ("ready", Look::Good),
        };
        spans.push(Span::raw("  "));
        spans.push(Span::styled(word, style(look)));
    }
    Line::from(spans)
}

/// All together; or what is wrong.
fn totals_line(view: &View) -> Line<'static> {
    if let Some(error) = &view.error {
        return Line::styled(on_one_line(error), style(Look::Bad));
    }
    let health = view.now.as_ref().map(|now| &now.status.health);
    let wrong = health.and_then(|health| health.dead.iter().chain(&health.unready).chain(&health.details).next());
    if let Some(wrong) = wrong {
        return Line::styled(on_one_line(wrong), style(Look::Warning));
    }
    Line::raw(match view.total() {
        None => "looking …".to_owned(),
        Some((rates, lag)) => format!(
            "{} events/s, {}/s read, {} of a core, {} lag",
            amount(rates.events),
            size(rates.bytes as u64),
            cores(rates.cpu),
            size(lag)
        ),
    })
}

fn tabs_line(view: &View) -> Line<'static> {
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    let mut spans = Vec::new();
    for kind in Kind::ALL {
        let name = format!(" {} ", kind.name());
        spans.push(if kind == view.kind { Span::styled(name, chosen) } else { Span::raw(name) });
    }
    let order = match (view.by, view.is_reversed) {
        (By::Name, false) | (_, true) => "up",
        _ => "down",
    };
    let order = if view.by == By::Name && view.is_reversed { "down" } else { order };
    spans.push(Span::raw(format!("  by {}, {order}", view.by.name())));
    if view.is_typing || !view.filter.is_empty() {
        let cursor = if view.is_typing { "_" } else { "" };
        spans.push(Span::styled(format!("  /{}{cursor}", view.filter), style(Look::Head)));
    }
    Line::from(spans)
}

fn draw_table(frame: &mut Frame, area: Rect, view: &View, chosen: usize) {
    let columns = view.columns();
    let is_number = |title: &str| title.starts_with('>');
    let titles = columns.iter().map(|(title, _)| aligned(title.trim_start_matches('>').to_owned(), is_number(title)));
    let first = Text::from(view.kind.name().trim_end_matches('s').to_uppercase());
    let head = TableRow::new([first].into_iter().chain(titles)).style(style(Look::Head));
    let rows = view.rows().into_iter().map(|row| {
        let name = Text::from(on_one_line(&row.name));
        let cell =
            |(cell, (title, _)): (Cell, &(&str, u16))| aligned(cell.text, is_number(title)).style(style(cell.look));
        TableRow::new([name].into_iter().chain(row.cells.into_iter().zip(columns).map(cell)))
    });
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let widths: Vec<_> = [Constraint::Fill(1)].into_iter().chain(widths).collect();
    let table =
        Table::new(rows, widths).header(head).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(chosen);
    frame.render_stateful_widget(table, area, &mut state);
}

fn aligned(text: String, is_number: bool) -> Text<'static> {
    Text::from(text).alignment(if is_number { Alignment::Right } else { Alignment::Left })
}

fn keys_line(view: &View) -> Line<'static> {
    let dim = Style::new().add_modifier(Modifier::DIM);
    Line::styled(
        match view.is_typing {
            true => "Enter: keep   Esc: all",
            false => "q quit  Tab next  / filter  sort by: l lag e events c CPU f fuel x failures n name",
        },
        dim,
    )
}

fn style(look: Look) -> Style {
    match look {
        Look::Plain => Style::new(),
        Look::Good => Style::new().fg(Color::Green),
        Look::Warning => Style::new().fg(Color::Yellow),
        Look::Bad => Style::new().fg(Color::Red),
        Look::Head => Style::new().add_modifier(Modifier::BOLD),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::view::Flow;
    use super::*;
    use crate::control::{LogstoreState, LogstoreStatus, PluginStatus, ProjectStatus, SinkState, SinkStatus, Status};

    fn logstore(read: u64, failed: u64, lag_bytes: u64) -> LogstoreStatus {
        let plugin = PluginStatus {
            name: "nginx".to_owned(),
            events: read,
            fuel_per_event: 12_000.0,
            cpu_per_event: 500.0,
            failed,
            last_failure: (failed > 0).then(|| "no\x1b[2J request".to_owned()),
            ..PluginStatus::default()
        };
        LogstoreStatus {
            root_exists: true,
            plugins: vec![plugin],
            counts: [("read", read), ("bytes_read", 200 * read)].map(|(name, count)| (name.to_owned(), count)).into(),
            lag_bytes,
            lag_seconds: lag_bytes as f64 / 1000.0,
            ..LogstoreStatus::default()
        }
    }

    /// After so many events.
    fn status(events: u64) -> Status {
        let waiting = LogstoreStatus {
            state: LogstoreState::Waiting,
            problem: Some("its sink does not take more yet".to_owned()),
            ..logstore(100, 0, 2_000_000)
        };
        let project = |cpu_seconds| ProjectStatus { share: 1, cpu: Some(500), cpu_seconds, ..ProjectStatus::default() };
        let counts = [("delivered", events), ("failures", 3), ("waiting", 7)];
        let far = SinkStatus {
            kind: "elasticsearch".to_owned(),
            state: SinkState::Retrying,
            error: Some("the answer is 503".to_owned()),
            counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
        };
        let near = SinkStatus { kind: "file".to_owned(), ..SinkStatus::default() };
        let named = |name: &str| name.to_owned();
        Status {
            version: named("0.1.0"),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 7440,
            projects: [(named("pay"), project(1.0)), (named("shop"), project(events as f64 / 20_000.0))].into(),
            logstores: [
                (named("pay/audit"), waiting),
                (named("shop/app"), logstore(50, 0, 0)),
                (named("shop/nginx-access"), logstore(events, events / 1000, 1536)),
            ]
            .into(),
            sinks: BTreeMap::from([(named("far"), far), (named("near"), near)]),
            ..Status::default()
        }
    }

    fn view() -> View {
        let mut view = View::new("http://127.0.0.1:9480");
        let now = Instant::now();
        view.add(status(10_000), now);
        view.add(status(30_000), now + Duration::from_secs(2));
        view
    }

    fn press(view: &mut View, keys: impl IntoIterator<Item = KeyCode>) {
        for key in keys {
            assert_eq!(view.press(KeyEvent::new(key, KeyModifiers::NONE)), Flow::GoOn);
        }
    }

    fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    /// The names of the rows.
    fn names(view: &View) -> Vec<String> {
        view.rows().into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn a_small_terminal_shows_it_all() {
        let mut view = view();
        let expected = [
            "weir at http://127.0.0.1:9480  0.1.0, up 2h 4m  ready",
            "10.0k events/s, 1.9MiB/s read, 50.0% of a core, 1.9MiB lag",
            " logstores  projects  sinks   by lag, down",
            "LOGSTORE               STATE         LAG  BEHIND EVENTS/S    CPU FUEL/EV FAILED",
            "pay/audit              waiting    1.9MiB 33m 20s        0   0.0%   12.0k      0",
            "shop/nginx-access      running    1.5KiB    1.5s    10.0k   0.5%   12.0k     30",
            "shop/app               running        0B      0s        0   0.0%   12.0k      0",
            "its sink does not take more yet",
            "q quit  Tab next  / filter  sort by: l lag e events c CPU f fuel x failures n na",
        ];
        let screen = drawn(&view, 80, 24);
        let shown: Vec<_> = screen.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(shown, expected.iter().collect::<Vec<_>>());
        assert_eq!((screen[22].as_str(), screen.len()), (expected[7], 24));

        press(&mut view, [KeyCode::Down]);
        assert_eq!(drawn(&view, 80, 24)[22], "nginx failed last: no\\u{1b}[2J request");
        press(&mut view, [KeyCode::Tab]);
        let projects = [
            "PROJECT                STORES       LAG EVENTS/S    CPU LIMIT    MEMORY FAILED",
            "pay                         1    1.9MiB        0   0.0%  500m        0B      0",
            "shop                        2    1.5KiB    10.0k  50.0%  500m        0B     30",
        ];
        assert_eq!(drawn(&view, 80, 24)[3..6], projects);
        press(&mut view, [KeyCode::Tab]);
        let sinks = [
            "SINK                            TYPE          STATE    EVENTS/S FAILURES WAITING",
            "far                             elasticsearch retrying    10.0k        3       7",
            "near                            file          working         -        -       -",
        ];
        let screen = drawn(&view, 80, 24);
        assert_eq!(screen[3..6], sinks);
        assert_eq!(screen[22], "the answer is 503");
    }

    #[test]
    fn rows_are_sorted_both_ways_and_filtered() {
        let mut view = view();
        let by_lag = ["pay/audit", "shop/nginx-access", "shop/app"];
        assert_eq!(names(&view), by_lag);
        press(&mut view, [KeyCode::Char('l')]);
        assert_eq!(names(&view), ["shop/app", "shop/nginx-access", "pay/audit"]);
        for key in ['e', 'x', 'c'] {
            press(&mut view, [KeyCode::Char(key)]);
            assert_eq!(names(&view)[0], "shop/nginx-access", "{key}");
        }
        press(&mut view, [KeyCode::Char('n')]);
        assert_eq!(names(&view), ["pay/audit", "shop/app", "shop/nginx-access"]);
        press(&mut view, "/APPx".chars().map(KeyCode::Char));
        assert_eq!(names(&view), [""; 0]);
        press(&mut view, [KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!(names(&view), ["shop/app"]);
        assert_eq!(drawn(&view, 80, 24)[2], " logstores  projects  sinks   by name, up  /APP");
        press(&mut view, [KeyCode::Esc, KeyCode::End]);
        assert_eq!((names(&view).len(), view.chosen), (3, 2));
        assert_eq!(view.press(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)), Flow::Quit);
        assert_eq!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Flow::Quit);
    }

    #[test]
    fn no_rates_are_made_up() {
        let mut view = View::new("http://127.0.0.1:9480");
        assert_eq!(drawn(&view, 80, 24)[1], "looking …");
        let now = Instant::now();
        view.add(status(30_000), now);
        assert_eq!(
            drawn(&view, 80, 24)[4],
            "pay/audit              waiting    1.9MiB 33m 20s        -      -   12.0k      0"
        );
        // What was begun anew has counted less.
        view.add(status(10), now + Duration::from_secs(1));
        assert_eq!(view.total().unwrap().0.events, 0.0);
        view.failed("no agent is reached".to_owned());
        assert_eq!(drawn(&view, 80, 24)[1], "no agent is reached");
    }

    #[test]
    fn a_terminal_of_any_size_can_be_drawn_on() {
        let mut view = view();
        for kind in Kind::ALL {
            assert_eq!(view.kind, kind);
            for (width, height) in [(1, 1), (10, 3), (40, 8), (300, 100)] {
                assert_eq!(drawn(&view, width, height).len(), usize::from(height));
            }
            press(&mut view, [KeyCode::Tab]);
        }
    }
}
