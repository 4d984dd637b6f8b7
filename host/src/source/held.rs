//! Files that are held: those that are not found any more and may have an end to be read, those that are closed to
//! save descriptors, and those that wait for the generation before them.

use std::io;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::discover::Found;
use super::disk::{self, Bytes};
use super::identity::FileId;
use super::rotation::family;
use super::{After, Ended, Source, TRY_AGAIN, Then, Tracked};

/// No file has that number.
const NOBODY: FileId = FileId { device: 0, inode: 0 };

impl Source {
    /// Lets go of files that are not found any more: those that nobody writes to, and those beyond the budgets.
    pub(super) fn look_at_missing(&mut self, now: Instant) {
        if self.missing.is_empty() {
            return;
        }
        let mut missing: Vec<_> = self.missing.iter().map(|(id, since)| (*since, *id)).collect();
        missing.sort();
        let size = |source: &Self, id: &FileId| source.files[id].reader.meta().map_or(0, |meta| meta.len);
        let (mut files, mut bytes) = (missing.len(), missing.iter().map(|(_, id)| size(self, id)).sum::<u64>());
        let budget = self.settings.rotated;
        for (since, id) in missing {
            if files > budget.max_files || bytes > budget.max_size {
                (files, bytes) = (files - 1, bytes - size(self, &id));
                self.abandon(id);
            } else if now - since >= budget.wait {
                let file = &self.files[&id];
                let is_done = !file.queued && !file.reader.has_rest() && !self.copies.is_undecided(id);
                match is_done {
                    true => self.let_go(id),
                    false => self.enqueue(id),
                }
            }
        }
    }

    /// Whether what is at the end of a file is all that it will have.
    pub(super) fn is_succeeded(&self, id: FileId, now: Instant) -> bool {
        let Some(file) = self.files.get(&id) else { return false };
        let is_late = self.missing.get(&id).is_some_and(|since| now - *since >= self.settings.rotated.wait);
        let next = file.before.and_then(|next| self.files.get(&next));
        let next = next.filter(|next| next.after.as_ref().is_some_and(|after| after.file == id));
        is_late || next.is_some_and(|next| next.is_over || next.reader.meta().is_none_or(|meta| meta.len > 0))
    }

    /// Lets go of files that are gone: their inodes are those of other files by now.
    pub(super) fn let_go_of_replaced(&mut self, found: &[Found]) {
        for Found { path, meta } in found {
            // What is open keeps its inode.
            let closed = self.files.get(&meta.id).filter(|file| !file.reader.is_open());
            let born = closed.map(|file| file.reader.name().born);
            // What was found may be what was there before.
            let is_other = |now: disk::Meta| now.id == meta.id && Some(now.born) != born;
            if born.is_some_and(|born| born != meta.born) && self.discovery.look(path).is_ok_and(is_other) {
                self.abandon(meta.id);
            }
        }
    }

    pub(super) fn abandon(&mut self, id: FileId) {
        let Some(file) = self.files.get(&id) else { return };
        let unread = file.reader.meta().map_or(0, |meta| meta.len.saturating_sub(file.reader.offset()));
        self.counts.abandoned_files += 1;
        self.counts.abandoned_bytes += unread;
        let path = &file.reader.name().path;
        tracing::warn!(file = ?path, unread, "let go before its end: too many rotated files are held, or too large ones");
        self.let_go(id);
    }

    fn let_go(&mut self, id: FileId) {
        let Some(file) = self.files.remove(&id) else { return };
        self.missing.remove(&id);
        self.buffered -= file.buffered;
        let links = file.reader.meta().map_or(0, |meta| meta.links);
        self.open -= usize::from(file.reader.is_open());
        if let Some(timer) = file.timer {
            self.timers.remove(&(timer, id));
        }
        for members in self.families.values_mut() {
            members.retain(|member| *member != id);
        }
        self.families.retain(|_, members| !members.is_empty());
        // Its number may be another file's soon, which comes after those that came after this one.
        let next = file.before.and_then(|next| self.files.get_mut(&next)?.after.as_mut());
        if let Some(after) = next.filter(|after| after.file == id) {
            after.file = NOBODY;
        }
        self.copies.forget(id);
        self.copies.remember(file.reader.key(), file.reader.position(), file.reader.former(), file.reader.ends());
        let then = if links == 0 { Then::Deleted } else { Then::Gone };
        self.ended.push_back(Ended { key: file.reader.key(), then });
    }

    /// Puts a file that is begun behind the generation before it.
    pub(super) fn follow(&mut self, tracked: &mut Tracked, path: &Path) {
        let id = tracked.reader.name().id;
        let family = family(path);
        let before = self.families.get(family).and_then(|members| members.last().copied());
        if let Some(before) = before.filter(|_| !self.copies.is_undecided(id))
            && let Some(other) = self.files.get_mut(&before)
        {
            other.before = Some(id);
            let len = other.reader.meta().map_or(0, |meta| meta.len);
            tracked.after = Some(After { file: before, len, is_final: false });
            self.enqueue(before);
        }
        self.families.entry(family.into()).or_default().push(id);
    }

    /// Whether something else has to be read before the file, which is seen to.
    pub(super) fn is_blocked(&mut self, id: FileId) -> bool {
        let Some(tracked) = self.files.get(&id) else { return true };
        if tracked.is_over
            && let Some(copy) = self.undecided_of(id, tracked.reader.key())
        {
            self.enqueue(copy);
            return true;
        }
        let Some(After { file: before, len, is_final }) = tracked.after else { return false };
        let has_content = tracked.is_over || tracked.reader.meta().is_none_or(|meta| meta.len > 0);
        if self.waits(before) {
            // Perhaps for this one. What both come after is read first.
            return has_content && self.defer_to_elder(id, before);
        }
        if let Some(other) = self.files.get(&before) {
            let (reader, mut len) = (&other.reader, len);
            let size = reader.meta().filter(|_| !reader.is_compressed()).map(|meta| meta.len);
            if has_content && !is_final {
                len = size.unwrap_or(len);
            }
            let has_more = has_content && size.is_some_and(|size| reader.has_more(size));
            // One that goes on growing has been read as far as it was.
            let is_far = !reader.is_compressed() && reader.looked_at() >= len && (has_more || !reader.is_at_end());
            let is_through = reader.is_at_end() && !other.queued && !reader.has_rest() && !has_more;
            if !other.is_failing && (other.is_over || !is_through && !is_far) {
                // What it has at its end is complete once this file has something.
                if has_content || !reader.is_at_end() {
                    self.enqueue(before);
                }
                if let Some(After { len: most, is_final, .. }) = self.files.get_mut(&id).and_then(|f| f.after.as_mut())
                {
                    (*most, *is_final) = (len, has_content);
                }
                return true;
            }
        }
        if !has_content {
            // There is nothing to read yet. When there is, what comes before may have more, too.
            return false;
        }
        if let Some(tracked) = self.files.get_mut(&id) {
            tracked.after = None;
        }
        self.defer_to_elder(id, before)
    }

    /// Has a generation read first that has something to read, where the very latest is a copy of an older one.
    fn defer_to_elder(&mut self, id: FileId, latest: FileId) -> bool {
        let elder = self.unread_elder(id, latest);
        if let Some(elder) = elder {
            // Once: it may be written to for ever.
            if let Some(tracked) = self.files.get_mut(&id) {
                tracked.after = None;
            }
            self.enqueue(elder);
            self.enqueue(id);
        }
        elder.is_some()
    }

    /// The latest generation before a file that has something to read, where the very latest is a copy of an older one.
    fn unread_elder(&self, id: FileId, latest: FileId) -> Option<FileId> {
        let members = self.families.values().find(|members| members.contains(&id))?;
        let older = members.iter().take_while(|member| **member != id).filter(|member| **member != latest);
        let has_more = |member: &&FileId| {
            self.files.get(*member).is_some_and(|file| {
                let reader = &file.reader;
                let has_more = reader.meta().is_some_and(|meta| reader.has_more(meta.len));
                has_more && !file.is_over && !file.is_failing && !reader.is_compressed()
            })
        };
        older.filter(has_more).last().copied()
    }

    /// The end of the file was reached: what waits for that can go on.
    pub(super) fn unblock_successor(&mut self, id: FileId) {
        let next = self.files.get(&id).and_then(|file| file.before);
        if let Some(next) = next
            && self.files.get(&next).is_some_and(|next| next.after.as_ref().is_some_and(|after| after.file == id))
        {
            self.enqueue(next);
        }
    }

    /// Opens a file; if there are too many, quiet ones are closed.
    pub(super) fn open_file(&mut self, path: &Path, id: FileId) -> io::Result<Option<Box<dyn Bytes>>> {
        while self.open >= self.settings.max_open && self.close_one() {}
        loop {
            match self.discovery.open(path, id) {
                Err(error) if is_too_many(&error) && self.close_one() => {}
                opened => {
                    self.open += usize::from(matches!(opened, Ok(Some(_))));
                    return opened;
                }
            }
        }
    }

    fn close_one(&mut self) -> bool {
        while let Some(id) = self.closable.pop_front() {
            let Some(file) = self.files.get_mut(&id) else { continue };
            file.is_closable = false;
            let reader = &file.reader;
            let is_quiet = reader.is_at_end() && reader.is_open() && !reader.has_rest() && !reader.is_compressed();
            // One that is not found any more could not be opened again.
            if is_quiet && !file.queued && !self.missing.contains_key(&id) && !file.is_over {
                file.reader.close();
                self.open -= 1;
                return true;
            }
        }
        false
    }

    /// Whether the file is open, after it was opened again if need be.
    pub(super) fn open_again(&mut self, id: FileId, now: Instant) -> bool {
        let Some(file) = self.files.get(&id) else { return false };
        if file.reader.is_open() {
            return true;
        }
        let path = self.relative(file).to_owned();
        let born = file.reader.name().born;
        match self.open_file(&path, id) {
            Ok(Some(opened)) if opened.meta().is_ok_and(|meta| meta.born == born) => {
                if let Some(file) = self.files.get_mut(&id) {
                    file.reader.open_again(opened);
                }
                true
            }
            Err(error) if is_too_many(&error) => {
                self.set_timer(id, now + TRY_AGAIN);
                false
            }
            opened => {
                self.open -= usize::from(matches!(opened, Ok(Some(_))));
                self.missing.entry(id).or_insert(now);
                // It may have another name since it was last looked for.
                self.find_closed();
                if self.holds(id) {
                    return true;
                }
                self.abandon(id);
                // Another file may have its name.
                self.look_soon(&path, now);
                false
            }
        }
    }
}

fn is_too_many(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::framing::multiline::{Patterns, Rule};
    use super::super::reader::Chunk;
    use super::super::watch::{News, Watch};
    use super::super::{EVENTS, FEW_RESTS, Read, Settings};
    use super::*;

    /// `app.log`, and what is read of it and of what follows it.
    struct Scene {
        path: PathBuf,
        source: Source,
        chunk: Chunk,
        now: Instant,
        read: String,
        _dir: tempfile::TempDir,
    }

    impl Scene {
        fn new(text: &str, multiline: Option<Rule>) -> Scene {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.log");
            fs::write(&path, text).unwrap();
            let mut settings = Settings::plain(dir.path());
            settings.framing.multiline = multiline;
            let source = Source::new(settings, HashMap::new(), Watch::deaf(), News::new(Box::new(|| {}))).unwrap();
            Scene { path, source, chunk: Chunk::default(), now: Instant::now(), read: String::new(), _dir: dir }
        }

        /// Reads a chunk, if there is one.
        fn next(&mut self) -> bool {
            if self.source.read(&mut self.chunk, false, self.now) != Read::Some {
                return false;
            }
            let batch = &self.chunk.batch;
            for event in 0..batch.len() {
                let [_, start, end] = *batch.event(event) else { panic!("one cell an event") };
                self.read.push_str(std::str::from_utf8(&batch.arena[start as usize..end as usize]).unwrap());
                self.read.push('\n');
            }
            true
        }

        /// Reads what there is in three seconds: less than a line without an end waits.
        fn go_on(&mut self) {
            for _ in 0..3 {
                self.now += Duration::from_secs(1);
                while self.next() {}
            }
        }
    }

    fn lines(numbers: std::ops::Range<usize>) -> String {
        numbers.map(|number| format!("{number}\n")).collect()
    }

    #[test]
    fn of_many_short_lines_all_are_read_before_the_next_generation() {
        // Where lines are joined, the last one may go on.
        let joined = Rule::new(&Patterns::Start("^".to_owned()), 100).unwrap();
        for (multiline, left) in [(None, 0), (Some(joined), 1)] {
            // More than fit into a chunk, and fewer bytes than one reads.
            const LINES: usize = 3 * EVENTS;
            let mut scene = Scene::new(&lines(0..LINES), multiline);
            assert!(scene.next());
            fs::rename(&scene.path, scene.path.with_extension("log.1")).unwrap();
            fs::write(&scene.path, lines(LINES..LINES + 10)).unwrap();
            scene.go_on();
            assert!(scene.read == lines(0..LINES + 10 - left), "{} lines", scene.read.lines().count());
        }
    }

    #[test]
    fn the_beginning_of_a_line_that_is_let_go_is_in_the_file_or_counted() {
        let long = "x".repeat(FEW_RESTS + 1);
        for is_let_go in [false, true] {
            let mut scene = Scene::new(&format!("one\n{long}"), None);
            scene.go_on();
            assert!(scene.source.buffered() > FEW_RESTS);
            if is_let_go {
                scene.source.release();
                assert_eq!(scene.source.buffered(), 0);
            }
            fs::write(&scene.path, "two\n").unwrap();
            scene.go_on();
            let rest = if is_let_go { String::new() } else { format!("{long}\n") };
            assert!(scene.read == format!("one\n{rest}two\n"), "{}", scene.read.len());
            assert_eq!(scene.source.counts.abandoned_bytes, if is_let_go { long.len() as u64 } else { 0 });
        }
        // It goes on where it was.
        let mut scene = Scene::new(&long, None);
        scene.go_on();
        scene.source.release();
        fs::write(&scene.path, format!("{long}y\n")).unwrap();
        scene.go_on();
        assert!(scene.read == format!("{long}y\n"), "{}", scene.read.len());
    }
}
