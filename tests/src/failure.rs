//! The words of the last failed expectation of this thread, to be said again after a log that would bury them.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on what fails is remembered, besides being told as before.
pub fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST.with(|last| last.replace(info.to_string()));
            tell(info);
        }));
    });
}

/// What failed last in this thread.
pub fn last() -> String {
    LAST.with(|last| last.borrow().clone())
}
