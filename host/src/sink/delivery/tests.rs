//! Deliveries to a destination that does what it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::piece::Piece;
use super::*;
use crate::sink::compress::Compression;
use crate::sink::dead_letters::read;
use crate::sink::records::Records;
use crate::sink::{Lost, Receipt, Returned, Returns};

/// What to answer to a request: given its number, its logstore, and its events.
type Answers = Box<dyn Fn(usize, &LogstoreName, &[String]) -> Outcome + Send + Sync>;

/// A destination that keeps what it takes.
#[derive(Clone)]
struct Scripted {
    answers: Arc<Answers>,
    requests: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn new(answers: impl Fn(usize, &LogstoreName, &[String]) -> Outcome + Send + Sync + 'static) -> Self {
        let zero = Arc::<AtomicUsize>::default;
        let (requests, under_way, most) = (zero(), zero(), zero());
        Scripted { answers: Arc::new(Box::new(answers)), requests, under_way, most, taken: Arc::default() }
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

impl Transport for Scripted {
    fn format(&self) -> &'static str {
        "text"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            let plain = layout.plain(&bytes).unwrap();
            let events: Vec<_> = std::str::from_utf8(&plain).unwrap().lines().map(str::to_owned).collect();
            assert_eq!(events.len(), layout.events);
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            // Others that may be under way begin, too.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let outcome = (self.answers)(self.requests.fetch_add(1, Ordering::SeqCst), target, &events);
            let kept = |event: &u32| match &outcome {
                Outcome::Delivered => true,
                Outcome::Partly { refused, again } => {
                    !again.contains(event) && !refused.iter().any(|(refused, _)| refused == event)
                }
                _ => false,
            };
            let kept = (0..events.len() as u32).filter(kept).map(|event| events[event as usize].clone());
            self.taken.lock().unwrap().extend(kept);
            outcome
        }
        .boxed()
    }
}

/// A delivery, and what comes back from it.
struct Scene {
    delivery: Delivery,
    returns: Arc<Returns>,
    accounts: Arc<SinkAccounts>,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(transport: Scripted) -> Self {
        Self::with(transport, 1 << 20, false)
    }

    fn with(transport: Scripted, room: u64, discards: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Arc::<SinkAccounts>::default();
        let letters = Arc::new(DeadLetters::new(dir.path(), room, discards));
        let limits = Limits { concurrency: 4, max_backoff: Duration::from_millis(20), is_one_host: true };
        let delivery = Delivery::start("s", transport, limits, letters, accounts.clone(), Runtime::start().unwrap());
        Scene { delivery, returns: Returns::new(Box::new(|| {})), accounts, dir }
    }

    /// Sends events as one payload.
    fn send(&self, target: &str, id: u64, events: &[&str]) {
        self.delivery.send(self.payload(target, id, events));
    }

    fn payload(&self, target: &str, id: u64, events: &[&str]) -> Payload {
        let mut records = Records { wants_ends: true, ..Records::default() };
        for event in events {
            records.bytes.extend(event.as_bytes());
            records.bytes.extend(b"\n");
            records.end_event();
        }
        let body = records.seal(None, Compression::Zstd(1));
        let receipt = Receipt { id, outlet: 0, returns: self.returns.clone() };
        Payload { target: Arc::new(target.parse().unwrap()), body, receipt }
    }

    /// Ends the delivery: what has come back, by the payload's number, with what of it is lost.
    fn close(&self, within: Duration) -> BTreeMap<u64, Vec<(u32, Lost)>> {
        self.delivery.close(within);
        let mut returned = Vec::new();
        self.returns.take(&mut returned);
        let count = returned.len();
        let by_id: BTreeMap<_, _> = returned.into_iter().map(|Returned { id, lost, .. }| (id, lost)).collect();
        assert_eq!(by_id.len(), count, "one came back twice");
        by_id
    }

    /// Each dead letter of a logstore: its reason and its event.
    fn letters(&self, logstore: &str) -> Vec<(String, String)> {
        let files = DeadLetters::files(self.dir.path(), Some(&logstore.parse().unwrap())).unwrap();
        let letters = files.iter().map(|path| read(path).unwrap());
        letters.map(|letter| (letter.head.reason, String::from_utf8(letter.body).unwrap())).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.accounts.summary()[name]
    }
}

const LONG: Duration = Duration::from_secs(60);

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn refuses_bad(_: usize, _: &LogstoreName, events: &[String]) -> Outcome {
    match events.iter().any(|event| event.starts_with("bad")) {
        true => Outcome::Refused("400: bad".to_owned()),
        false => Outcome::Delivered,
    }
}

#[test]
fn a_payload_is_split_until_what_is_refused_is_alone() {
    let transport = Scripted::new(refuses_bad);
    let scene = Scene::new(transport.clone());
    scene.send("a/b", 0, &["1", "2", "bad", "3", "4", "5", "bad too", "6"]);
    scene.send("a/b", 1, &["7"]);
    let back = scene.close(LONG);
    assert_eq!(back[&0], [(2, Lost::DeadLetter), (6, Lost::DeadLetter)]);
    assert_eq!(back[&1], []);
    let mut taken = transport.taken();
    taken.sort();
    assert_eq!(taken, ["1", "2", "3", "4", "5", "6", "7"]);
    let mut letters = scene.letters("a/b");
    // They are alone at about the same time.
    letters.sort();
    let expected = ["bad\n", "bad too\n"].map(|event| ("400: bad".to_owned(), event.to_owned()));
    assert_eq!(letters, expected);
    let counts = ["delivered", "dead_lettered", "discarded", "waiting"].map(|name| scene.count(name));
    assert_eq!(counts, [7, 2, 0, 0]);
}

#[test]
fn what_is_pushed_back_alone_comes_again_alone() {
    // Of each first request, odd events are pushed back, and the third is refused.
    let transport = Scripted::new(|number, _, events| match number {
        0 => Outcome::Partly {
            refused: vec![(2, "mapping".to_owned())],
            again: (0..events.len() as u32).filter(|event| event % 2 == 1).collect(),
        },
        _ => Outcome::Delivered,
    });
    let scene = Scene::new(transport.clone());
    scene.send("a/b", 0, &["0", "1", "2", "3", "4"]);
    assert_eq!(scene.close(LONG)[&0], [(2, Lost::DeadLetter)]);
    assert_eq!(transport.taken(), ["0", "4", "1", "3"]);
    assert_eq!(scene.letters("a/b"), [("mapping".to_owned(), "2\n".to_owned())]);
    assert_eq!((scene.count("retries"), scene.count("delivered")), (1, 4));
}

#[test]
fn an_answer_about_events_that_were_not_sent_is_not_believed() {
    let one = |event| (event, "?".to_owned());
    let transport = Scripted::new(move |number, _, _| match number {
        0 => Outcome::Partly { refused: vec![one(7)], again: Vec::new() },
        1 => Outcome::Partly { refused: Vec::new(), again: vec![2] },
        // Twice, and out of order.
        2 => Outcome::Partly { refused: vec![one(0), one(0), one(1)], again: vec![1] },
        3 => Outcome::Partly { refused: vec![one(1)], again: vec![1] },
        4 => Outcome::Partly { refused: Vec::new(), again: vec![1, 0] },
        _ => Outcome::Delivered,
    });
    let scene = Scene::new(transport);
    scene.send("a/b", 0, &["0", "1"]);
    assert_eq!(scene.close(LONG)[&0], []);
    assert_eq!((scene.count("requests"), scene.count("delivered"), scene.count("dead_lettered")), (6, 2, 0));
}

#[test]
fn a_panic_costs_a_try_and_no_event() {
    let transport = Scripted::new(|number, target, _| match number {
        0 => panic!("a mistake, made by {target}"),
        _ => Outcome::Delivered,
    });
    let scene = Scene::new(transport.clone());
    scene.send("a/b", 0, &["1"]);
    scene.send("c/d", 1, &["2"]);
    assert_eq!(scene.close(LONG).into_iter().collect::<Vec<_>>(), [(0, Vec::new()), (1, Vec::new())]);
    let mut taken = transport.taken();
    taken.sort();
    assert_eq!(taken, ["1", "2"]);
}

#[test]
fn one_logstores_trouble_is_not_anothers() {
    // One is pushed back all the time, one is refused all the time.
    let transport = Scripted::new(|_, target, _| match &*target.project {
        "busy" => Outcome::later("503", None),
        "strange" => Outcome::mistake("404"),
        _ => Outcome::Delivered,
    });
    let scene = Scene::new(transport.clone());
    for id in 0..4 {
        scene.send("busy/x", 100 + id, &["busy"]);
        scene.send("strange/x", 200 + id, &["strange"]);
    }
    for id in 0..50 {
        scene.send("good/x", id, &["good"]);
    }
    let back = scene.close(Duration::from_millis(500));
    assert!(back.keys().copied().eq(0..50), "{:?}", back.keys());
    assert_eq!(transport.taken(), ["good"; 50]);
}

#[test]
fn while_nothing_is_reached_one_request_at_a_time_tries() {
    let is_down = Arc::new(AtomicUsize::new(1));
    let down = is_down.clone();
    let transport = Scripted::new(move |_, _, _| match down.load(Ordering::SeqCst) {
        0 => Outcome::Delivered,
        _ => Outcome::unreachable("refused"),
    });
    let scene = Scene::new(transport.clone());
    for id in 0..100 {
        scene.send(&format!("p{id}/x"), id, &["event"]);
    }
    wait_until(|| transport.requests.load(Ordering::SeqCst) >= 10);
    // Two at the beginning, and then one after the other: a hundred payloads did not make a hundred tries.
    assert_eq!(transport.most.swap(0, Ordering::SeqCst), 2);
    is_down.store(0, Ordering::SeqCst);
    assert_eq!(scene.close(LONG).len(), 100);
    assert_eq!(transport.taken().len(), 100);
    // And then up to what is allowed.
    assert_eq!(transport.most.load(Ordering::SeqCst), 4);
}

#[test]
fn full_dead_letters_hold_up_or_discard() {
    let transport = Scripted::new(refuses_bad);
    // Not even one has room.
    let scene = Scene::with(transport.clone(), 10, false);
    scene.send("a/b", 0, &["1", "bad"]);
    scene.send("c/d", 1, &["2"]);
    let back = scene.close(Duration::from_millis(300));
    assert_eq!(back.into_iter().collect::<Vec<_>>(), [(1, Vec::new())]);
    let scene = Scene::with(transport, 10, true);
    scene.send("a/b", 0, &["1", "bad"]);
    assert_eq!(scene.close(LONG)[&0], [(1, Lost::Discarded)]);
    assert_eq!((scene.count("dead_lettered"), scene.count("discarded")), (0, 1));
    assert!(scene.letters("a/b").is_empty());
}

#[test]
fn after_a_mistake_of_ours_all_of_a_piece_is_sent_again() {
    let scene = Scene::new(Scripted::new(|_, _, _| Outcome::Delivered));
    let common = Common {
        sink: "s".to_owned(),
        transport: Scripted::new(|_, _, _| Outcome::Delivered),
        dead_letters: Arc::new(DeadLetters::new(scene.dir.path(), 1, false)),
        accounts: scene.accounts.clone(),
        trouble: Trouble::default(),
        aside: Arc::default(),
        letters: Mutex::default(),
        has_ended: AtomicBool::new(false),
    };
    let piece = Arc::new(Piece::new(scene.payload("a/b", 7, &["1", "2"])));
    let runtime = Runtime::start().unwrap();
    let panics = |_: &Piece| -> Result<(), Again> { panic!("on purpose") };
    let again = runtime.block_on(common.aside(&piece, panics)).unwrap_err();
    assert!(again.is_mistake, "{again:?}");
    // The thread goes on.
    assert_eq!(runtime.block_on(common.aside(&piece, |piece| Ok(piece.layout.events))), Ok(2));
    assert!(Arc::into_inner(piece).is_some(), "somebody has it still");
    assert!(scene.close(LONG).is_empty(), "something was reported");
}

#[test]
fn what_a_lane_left_behind_is_not_sent_when_its_logstore_has_begun_anew() {
    // Nothing arrives before the lane is gone.
    let is_there = Arc::new(AtomicBool::new(false));
    let answer = is_there.clone();
    let transport = Scripted::new(move |_, _, _| match answer.load(Ordering::SeqCst) {
        true => Outcome::Delivered,
        false => Outcome::unreachable("gone"),
    });
    let mut scene = Scene::new(transport.clone());
    scene.send("c/d", 0, &["other"]);
    scene.send("a/b", 0, &["1"]);
    scene.send("a/b", 1, &["2"]);
    wait_until(|| scene.count("failures") > 0);
    let former = std::mem::replace(&mut scene.returns, Returns::new(Box::new(|| {})));
    former.end();
    let again = ["1", "2", "3", "4"];
    (2..).zip(again).for_each(|(id, event)| scene.send("a/b", id, &[event]));
    // There were three.
    wait_until(|| scene.accounts.waiting.load(Ordering::Relaxed) >= 4);
    is_there.store(true, Ordering::SeqCst);
    let back = scene.close(LONG);
    assert_eq!(back.into_keys().collect::<Vec<_>>(), [2, 3, 4, 5]);
    // The first may have been under way when the lane was gone, but not the second.
    let taken = transport.taken();
    let count = |event: &str| taken.iter().filter(|taken| *taken == event).count();
    assert_eq!((count("2"), count("other")), (1, 1), "{taken:?}");
    assert!((1..=2).contains(&count("1")), "{taken:?}");
}

#[test]
fn what_is_not_delivered_in_time_does_not_come_back() {
    let scene = Scene::new(Scripted::new(|_, _, _| Outcome::later("503", None)));
    scene.send("a/b", 0, &["1"]);
    let begun = Instant::now();
    assert!(scene.close(Duration::from_millis(100)).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(5));
}
