//! Where a Redis for a test comes from.

use std::time::Duration;

use testcontainers::core::IntoContainerPort;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::RedisServer;
use super::server::HOW_TO_GET_ONE;

/// The variable that names a Redis to use instead of starting one.
pub const URL_VARIABLE: &str = "AIKI_TEST_REDIS_URL";
/// The variable that says how a Redis is to be started: `docker` or `binary`. Without it, whichever there is.
pub const KIND_VARIABLE: &str = "AIKI_TEST_REDIS";

/// The image, and its tag. The oldest that is tested.
const IMAGE: (&str, &str) = ("redis", "7.0");
/// The port inside of the container.
const PORT: u16 = 6379;
/// How long a daemon may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a container may take to listen.
const STARTING: Duration = Duration::from_secs(60);

/// A Redis for one test, and its URL. Tests of one run may share it: use names of your own.
#[derive(Debug)]
pub enum Source {
    /// Somebody else's; it may hold other things.
    Given(String),
    /// A container of this test's own, and where its port is.
    Container(Box<ContainerAsync<GenericImage>>, String),
    /// A process of this test's own.
    Own(RedisServer),
}

impl Source {
    /// Finds a Redis and prints which.
    ///
    /// # Panics
    /// When there is none, with a line that says how to get one.
    #[allow(clippy::panic)]
    pub async fn find() -> Self {
        if let Ok(url) = std::env::var(URL_VARIABLE) {
            println!("Redis: the one of {URL_VARIABLE}");
            return Self::Given(url);
        }
        match std::env::var(KIND_VARIABLE).as_deref() {
            Ok("binary") => Self::Own(RedisServer::start().await),
            Ok("docker") => match container().await {
                Ok(own) => own,
                Err(why) => panic!("{KIND_VARIABLE} is docker, but there is no container: {why}"),
            },
            Ok(other) => panic!("{KIND_VARIABLE} is {other:?}: it must be docker or binary, or not be set"),
            Err(_) if daemon_answers().await => match container().await {
                Ok(own) => own,
                Err(why) => panic!("a Docker daemon answers, but there is no container: {why}; {HOW_TO_GET_ONE}"),
            },
            Err(_) => Self::Own(RedisServer::start().await),
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        match self {
            Self::Given(url) | Self::Container(_, url) => url.clone(),
            Self::Own(server) => server.url(),
        }
    }
}

async fn daemon_answers() -> bool {
    let asked = async {
        match docker_client_instance().await {
            Ok(docker) => docker.ping().await.is_ok(),
            Err(_) => false,
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_default()
}

async fn container() -> Result<Source, String> {
    let image = GenericImage::new(IMAGE.0, IMAGE.1).with_exposed_port(PORT.tcp());
    let container = image
        .with_cmd(["redis-server", "--save", "", "--protected-mode", "no"])
        .with_startup_timeout(STARTING)
        .start()
        .await
        .map_err(|error| error.to_string())?;
    let host = container.get_host().await.map_err(|error| error.to_string())?;
    let port = container.get_host_port_ipv4(PORT.tcp()).await.map_err(|error| error.to_string())?;
    let url = format!("redis://{host}:{port}");
    // Docker listens on the port before Redis does: only an answer counts.
    let answers = async {
        while super::answers(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STARTING, answers).await.map_err(|_| format!("the container at {url} does not answer"))?;
    println!("Redis: a container of {}:{} at {url}", IMAGE.0, IMAGE.1);
    Ok(Source::Container(Box::new(container), url))
}
