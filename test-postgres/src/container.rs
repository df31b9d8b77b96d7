//! A Postgres in a container of this process.

use std::time::Duration;

use testcontainers::core::IntoContainerPort;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::sync::OnceCell;

/// The image, and its tag. The oldest that is tested.
const IMAGE: (&str, &str) = ("postgres", "15");
/// The port inside of the container.
const PORT: u16 = 5432;
/// How long a daemon may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a container may take to answer.
const STARTING: Duration = Duration::from_secs(60);

/// It goes with the process.
static CONTAINER: OnceCell<ContainerAsync<GenericImage>> = OnceCell::const_new();

pub(crate) async fn daemon_answers() -> bool {
    let asked = async {
        match docker_client_instance().await {
            Ok(docker) => docker.ping().await.is_ok(),
            Err(_) => false,
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_default()
}

pub(crate) async fn start() -> Result<String, String> {
    let container = CONTAINER
        .get_or_try_init(async || {
            let image = GenericImage::new(IMAGE.0, IMAGE.1).with_exposed_port(PORT.tcp());
            let image =
                image.with_env_var("POSTGRES_PASSWORD", "aiki").with_cmd(["postgres", "-c", "max_connections=300"]);
            image.with_startup_timeout(STARTING).start().await.map_err(|error| error.to_string())
        })
        .await?;
    let host = container.get_host().await.map_err(|error| error.to_string())?;
    let port = container.get_host_port_ipv4(PORT.tcp()).await.map_err(|error| error.to_string())?;
    let url = format!("postgres://postgres:aiki@{host}:{port}/postgres");
    // It starts once to set itself up and then again: the second answer in a row counts.
    let answers = async {
        let mut answered = 0;
        while answered < 2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            answered =
                if tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_ok() { answered + 1 } else { 0 };
        }
    };
    tokio::time::timeout(STARTING, answers).await.map_err(|_| format!("the container at {url} does not answer"))?;
    println!("Postgres: a container of {}:{} at {url}", IMAGE.0, IMAGE.1);
    Ok(url)
}
