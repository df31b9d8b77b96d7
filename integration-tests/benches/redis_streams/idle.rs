//! What a subscription costs that has nothing to do.

use std::time::Duration;

use integration_tests::redis::{RedisServer, command, connect};

use crate::subscribe;

pub(crate) const WORKFLOWS: usize = 20;

pub(crate) async fn measure(during: Duration) {
    // A server of its own: nobody else asks it anything.
    let redis = RedisServer::start().await;
    let workflows: Vec<String> = (0..WORKFLOWS).map(|number| format!("workflow-{number}")).collect();
    let subscriber = subscribe(&redis, &workflows).await;
    let receiving = async {
        loop {
            assert_eq!(subscriber.receive(8).await.expect("an answer"), []);
        }
    };
    let watching = async {
        let admin = connect(&redis.url()).await;
        // The beginning is dearer: everything is looked at once.
        tokio::time::sleep(Duration::from_secs(2)).await;
        command::<String>(&admin, "CONFIG RESETSTAT").await;
        let before = cpu_seconds();
        tokio::time::sleep(during).await;
        let cpu = cpu_seconds() - before;
        let stats: String = command(&admin, "INFO commandstats").await;
        (cpu, stats)
    };
    let (cpu, stats) = tokio::select! {
        never = receiving => never,
        seen = watching => seen,
    };
    let seconds = during.as_secs_f64();
    let (mut sent, mut all, mut lines) = (0.0, 0.0, Vec::new());
    for line in stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
        let Some((name, rest)) = line.split_once(":calls=") else { continue };
        let calls: f64 = rest.split(',').next().and_then(|calls| calls.parse().ok()).unwrap_or_default();
        if name.starts_with("config") || name == "info" {
            continue;
        }
        all += calls;
        // Asked by a script, which counts as one command.
        sent += if name == "xpending" { 0.0 } else { calls };
        lines.push(format!("{name} {:.2}", calls / seconds));
    }
    println!("  {:<52} {:>10.2} commands/s", "sent", sent / seconds);
    println!("  {:<52} {:>10.2} commands/s", "with those inside of scripts", all / seconds);
    println!("  {:<52} {:>10.2} %", "processor time of this process, of one core", cpu / seconds * 100.0);
    println!("    ({})", lines.join(", "));
    subscriber.close().await.expect("a clean end");
}

/// Processor time of all threads so far, in seconds. The kernel counts in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field may hold spaces; it ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}
