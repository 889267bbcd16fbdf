//! What the C library does with memory that is free, and which pages of the program are held.
//!
//! Every thread that allocates may get an arena of its own, which is rarely given back: a burst of work on many threads
//! leaves megabytes behind for good. Programs that live long and wait most of the time have few, and give back.

use crate::single_pages;
use std::fs;
use std::os::raw::{c_int, c_void};
use std::ptr;

/// At most so many arenas from now on; to be called before there are threads.
pub fn limit_arenas(count: u8) {
    // SAFETY: mallopt takes numbers alone, and may be called at any time.
    let _refused = unsafe { libc::mallopt(libc::M_ARENA_MAX, c_int::from(count)) };
}

/// Gives free memory back to the kernel; takes milliseconds, in which other threads may wait for memory.
pub fn give_back() {
    // SAFETY: malloc_trim takes a number alone, and locks what it touches.
    let _nothing_was_free = unsafe { libc::malloc_trim(0) };
}

/// Lets go of the pages of the program's own file that are mapped: most of them were needed once, to start. Those in
/// use come back from the page cache as they are touched, without any reading.
pub fn let_go_of_program() {
    for range in of_program() {
        let start = ptr::with_exposed_provenance_mut::<c_void>(range.start);
        // SAFETY: the range is a mapping of the running program's file that nobody may write to, none of whose pages
        // was ever copied. The file cannot be written while it runs, so each page that is touched again is what it
        // was. No mapping of the program is ever removed, so the range is still what it was when it was read.
        let _kept = unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
    }
}

/// From now on a page of the program comes without its neighbours, where the kernel can do that.
pub fn map_program_by_pages() {
    for range in of_program() {
        let _as_before = single_pages::come_alone(&range);
    }
}

/// The mappings of the running program that are nothing but its file.
fn of_program() -> Vec<std::ops::Range<usize>> {
    let (Ok(own), Ok(maps)) = (fs::read_link("/proc/self/exe"), fs::read_to_string("/proc/self/smaps"))
    else {
        return Vec::new();
    };
    untouched(&maps, &own.to_string_lossy())
}

/// The mappings of `file` that cannot be written to and hold nothing but its content.
fn untouched(smaps: &str, file: &str) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<(std::ops::Range<usize>, bool)> = Vec::new();
    let mut inside = false;
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [range, rights, _, _, _, path @ ..] if range.contains('-') => {
                let bound = |text: &str| usize::from_str_radix(text, 16).ok();
                let ends = range.split_once('-').and_then(|(from, to)| Some(bound(from)?..bound(to)?));
                let own = path.join(" ") == file && rights.starts_with('r') && !rights.contains('w');
                inside = own && ends.is_some();
                found.extend(ends.filter(|_| inside).map(|ends| (ends, false)));
            }
            ["Anonymous:", "0", "kB"] if inside => {
                if let Some((_, clean)) = found.last_mut() {
                    *clean = true;
                }
            }
            _ => {}
        }
    }
    found.into_iter().filter(|(_, clean)| *clean).map(|(range, _)| range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data that the linker keeps beside the program's text.
    static TABLE: [u64; 4096] = [7; 4096];

    #[test]
    fn the_program_goes_on_without_its_pages() {
        let before: u64 = TABLE.iter().sum();
        map_program_by_pages();
        for _ in 0..3 {
            let_go_of_program();
            assert_eq!(TABLE.iter().sum::<u64>(), before);
        }
    }

    #[test]
    fn only_what_is_the_file_itself_is_let_go() {
        let maps = "1000-3000 r-xp 00001000 08:01 9    /bin/knarr\nRss: 8 kB\nAnonymous:             0 kB\n\
            3000-4000 r--p 00003000 08:01 9    /bin/knarr\nAnonymous:             4 kB\n\
            4000-5000 rw-p 00004000 08:01 9    /bin/knarr\nAnonymous:             0 kB\n\
            5000-6000 r--p 00000000 08:01 8    /bin/other\nAnonymous:             0 kB\n\
            6000-7000 rw-p 00000000 00:00 0\nAnonymous:             0 kB\n";
        let found = untouched(maps, "/bin/knarr");
        assert_eq!((found.len(), found[0].start, found[0].end), (1, 0x1000, 0x3000));
    }

    #[test]
    fn memory_in_use_stays_as_it_is() {
        limit_arenas(2);
        let kept: Vec<Vec<usize>> = (0..1000).map(|number| vec![number; 100]).collect();
        give_back();
        assert!(kept.iter().enumerate().all(|(number, one)| one.iter().all(|value| *value == number)));
    }
}
