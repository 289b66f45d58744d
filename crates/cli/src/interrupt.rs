//! Ctrl-C: the first press asks whoever works to stop, the second ends the program.
use crate::error::{Error, Exit, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the signal handler; a signal has no other way to speak to the program.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether somebody looks at [`ASKED`] at the moment.
static HEARD: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C. Where it cannot (a platform without signals) the platform's default stays.
pub fn install() {
    let _ = ctrlc::set_handler(|| {
        let again = ASKED.swap(true, Ordering::SeqCst);
        if again || !HEARD.load(Ordering::SeqCst) {
            std::process::exit(Exit::Interrupted as i32);
        }
    });
}

/// While it lives, Ctrl-C is a request that the code in its scope looks at.
pub struct Listening(());

/// Begins to listen; forgets an earlier request.
pub fn listen() -> Listening {
    ASKED.store(false, Ordering::SeqCst);
    HEARD.store(true, Ordering::SeqCst);
    Listening(())
}

impl Listening {
    /// Whether Ctrl-C was pressed since.
    pub fn asked(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }

    /// An error once Ctrl-C was pressed.
    pub fn check(&self) -> Result<()> {
        if self.asked() { Err(Error::new(Exit::Interrupted, "stopped")) } else { Ok(()) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        HEARD.store(false, Ordering::SeqCst);
        ASKED.store(false, Ordering::SeqCst);
    }
}
