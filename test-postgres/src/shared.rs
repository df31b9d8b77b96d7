//! One Postgres for all test processes of a machine. The first starts it; it ends a while after the last is gone.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tokio::net::TcpStream;

use crate::server;

/// Locked, with others, for as long as this process lives. The operating system lets go of it.
static USED: OnceLock<File> = OnceLock::new();

/// Looks every twenty seconds whether nobody uses it, and ends it then. While it does, nobody can begin to.
const WATCH: &str = r#"
while sleep 20; do
    flock --nonblock --conflict-exit-code 9 "$1/users" sh -c '
        kill -QUIT "$2"; while kill -0 "$2" 2>/dev/null; do sleep 0.1; done; rm -rf "$3" "$1/url"
    ' sh "$1" "$2" "$3" && exit
    kill -0 "$2" 2>/dev/null || exit
done"#;

fn folder() -> Result<PathBuf, String> {
    let user = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    let folder = std::env::temp_dir().join(format!("aiki-test-postgres-{user}"));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn open(path: &Path) -> Result<File, String> {
    let file = File::options().create(true).truncate(false).write(true).read(true).open(path);
    file.map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) async fn attach() -> Result<String, String> {
    let folder = folder()?;
    let users = open(&folder.join("users"))?;
    users.lock_shared().map_err(|error| error.to_string())?;
    let starting = open(&folder.join("starting"))?;
    starting.lock().map_err(|error| error.to_string())?;
    let known = std::fs::read_to_string(folder.join("url")).ok().and_then(|text| text.parse::<u16>().ok());
    let port = match known {
        Some(port) if TcpStream::connect(("127.0.0.1", port)).await.is_ok() => port,
        _ => start(&folder).await?,
    };
    drop(starting);
    let _ = USED.set(users);
    let url = server::url(port);
    println!("Postgres: {url}, shared by the tests of this machine");
    Ok(url)
}

async fn start(folder: &Path) -> Result<u16, String> {
    let own = tempfile::Builder::new().prefix("aiki-pg-").tempdir().map_err(|error| error.to_string())?.keep();
    server::init(&own)?;
    let port = server::free_port()?;
    // What is stored here need not outlive a power cut.
    let options = ["fsync=off", "full_page_writes=off", "autovacuum=off"].map(str::to_owned);
    let process = server::spawn(&own, port, &options)?;
    let mut watch = Command::new("sh");
    watch.args(["-c", WATCH, "sh"]).arg(folder).arg(process.id().to_string()).arg(&own);
    watch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    watch.spawn().map_err(|error| error.to_string())?;
    server::answers(port).await?;
    std::fs::write(folder.join("url"), port.to_string()).map_err(|error| error.to_string())?;
    Ok(port)
}
