//! A clock of the day that can be set while a process runs. `faketime` cannot do it to a Redis with its own allocator.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const SOURCE: &str = include_str!("set_clock.c");

/// A clock, right at first. Its library is gone with this value: processes that go by it have to be started before.
#[derive(Debug)]
pub struct SetClock {
    folder: TempDir,
}

impl SetClock {
    /// Makes one, with the C compiler that this workspace needs anyway.
    ///
    /// # Errors
    /// When there is no `cc`, or it refuses.
    pub fn new() -> io::Result<Self> {
        let clock = Self { folder: tempfile::tempdir()? };
        let source = clock.folder.path().join("set_clock.c");
        std::fs::write(&source, SOURCE)?;
        let made =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.library()).arg(source).output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds ahead of the right time.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, seconds: i64) -> io::Result<()> {
        use std::io::Write;
        // In place: processes have it in their memory.
        let file = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(self.file());
        file?.write_all(&seconds.to_ne_bytes())
    }

    /// The words before the command of a process that goes by it.
    pub fn words(&self) -> Vec<String> {
        let (library, file) = (self.library(), self.file());
        vec!["env".into(), format!("LD_PRELOAD={}", library.display()), format!("CLOCK_OFF={}", file.display())]
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("set_clock.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("off")
    }
}
