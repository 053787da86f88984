//! Notices panics in threads that nobody joins: in the program each would be a power cut.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static PANICS: AtomicUsize = AtomicUsize::new(0);
static WATCH: Once = Once::new();

/// From now on panics in threads that a front end has started are counted.
pub fn watch() {
    WATCH.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if ["nbd", "vhost", "vring"]
                .iter()
                .any(|part| name.starts_with(part))
            {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            usual(panic);
        }));
    });
}

/// How many there were.
pub fn count() -> usize {
    PANICS.load(Ordering::SeqCst)
}
