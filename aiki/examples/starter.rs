//! Starts runs on a server elsewhere and waits for them; see the example `worker`.
//!
//! ```text
//! cargo run --example starter --features redis -- Ada Grace Edsger
//! ```

mod elsewhere;

use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let names: Vec<String> = match std::env::args().skip(1).collect::<Vec<_>>() {
        names if names.is_empty() => vec!["world".to_owned()],
        names => names,
    };
    let client = aiki::connect(elsewhere::client_config()?).await?;
    let one = elsewhere::greeting().start(&client, names[0].clone()).await?;
    println!("run {}: {}", one.id(), one.wait().await?);
    let all = elsewhere::party().start(&client, names).await?;
    println!("run {}: {}", all.id(), all.wait().await?.join(", "));
    Ok(())
}
