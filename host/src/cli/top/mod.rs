//! `weir top`: the status of a running agent, live.
//!
//! ```text
//! poll (a thread) ─┐
//! keys (a thread) ─┼─> news ──> view (what is shown, and in which order) ──> draw
//! signals ─────────┘
//! ```

mod draw;
mod rates;
mod view;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use super::Usage;
use super::client::{self, Client, Whom};
use super::screen::harmless;
use crate::config::units::{DURATION_HINT, parse_duration};
use crate::control::Status;
use view::{Flow, View};

/// Time between two looks at the agent.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

/// Show how a running agent is, live: rates, lag, CPU time and failures
///
/// Keys: Tab for projects, logstores and sinks; l, e, c, f, x, n to sort by lag, events, CPU, fuel, failures or name, again
/// for the other way round; / to show only names with what is typed; arrows to scroll; q to quit.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Time between two looks at the agent, from 200ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).filter(|duration| (SHORTEST..=LONGEST).contains(duration));
    duration.ok_or_else(|| format!("must be from 200ms to 60s; {DURATION_HINT}"))
}

/// What happens while it is shown.
enum News {
    Status(Box<Status>, Instant),
    /// Why there is no status.
    Failed(String),
    Key(KeyEvent),
    Resized,
    /// A signal, or the terminal is gone.
    Quit,
}

pub fn run(args: &Args) -> Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Usage("weir top needs a terminal; `weir status` does not".to_owned()).into());
    }
    let client = args.whom.client()?;
    // What is wrong with the first look is told in the words of other commands.
    let first = client.get::<Status>(client::STATUS)?;
    let mut view = View::new(client.address());
    view.add(first, Instant::now());

    let (told, news) = channel();
    signals(told.clone())?;
    let mut terminal = ratatui::try_init().context("the terminal")?;
    poll(client, args.interval, told.clone());
    keys(told);
    let shown = show(&mut terminal, &mut view, &news);
    ratatui::restore();
    shown
}

fn show(terminal: &mut DefaultTerminal, view: &mut View, news: &Receiver<News>) -> Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(frame, view))?;
        // All that is there, then once more what is to be seen.
        let mut next = news.recv().ok();
        while let Some(happened) = next {
            match happened {
                News::Status(status, at) => view.add(*status, at),
                News::Failed(why) => view.failed(why),
                News::Resized => {}
                News::Quit => return Ok(()),
                News::Key(key) if view.press(key) == Flow::Quit => return Ok(()),
                News::Key(_) => {}
            }
            next = news.try_recv().ok();
        }
    }
}

fn poll(client: Client, interval: Duration, told: Sender<News>) {
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            let looked = match client.get(client::STATUS) {
                Ok(status) => News::Status(Box::new(status), Instant::now()),
                Err(error) => News::Failed(harmless(&format!("{error:#}"))),
            };
            if told.send(looked).is_err() {
                return;
            }
        }
    });
}

fn keys(told: Sender<News>) {
    thread::spawn(move || {
        loop {
            let happened = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => News::Key(key),
                Ok(Event::Resize(..)) => News::Resized,
                Ok(_) => continue,
                Err(_) => News::Quit,
            };
            let is_end = matches!(happened, News::Quit);
            if told.send(happened).is_err() || is_end {
                return;
            }
        }
    });
}

/// Signals that would end it leave the terminal as it was.
fn signals(told: Sender<News>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listen = |kind| {
        let _guard = runtime.enter();
        signal(kind)
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let _ = told.send(News::Quit);
    });
    Ok(())
}
