//! A cluster of local processes.

use std::net::TcpListener;
use std::time::Duration;

use fred::clients::Client;
use fred::types::Value;

use super::{RedisServer, command, connect};

/// Hash slots of a cluster.
const SLOTS: u16 = 16_384;
/// How long the nodes may take to agree.
const PATIENCE: Duration = Duration::from_secs(20);

/// Three nodes without replicas, each with a third of the hash slots. They end with this value.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes, in the order of their slots; then replicas.
    pub nodes: Vec<RedisServer>,
    options: Vec<String>,
}

#[allow(clippy::expect_used)]
impl RedisCluster {
    /// Starts one, with further options for each node.
    ///
    /// # Panics
    /// When the processes cannot be started, or do not come to an agreement.
    pub async fn start(options: &[&str]) -> Self {
        let mut cluster =
            Self { nodes: Vec::new(), options: options.iter().map(|option| (*option).to_owned()).collect() };
        let mut buses = Vec::new();
        for _ in 0..3 {
            buses.push(cluster.add_node().await);
        }
        for number in 0..cluster.nodes.len() {
            let admin = cluster.admin(number).await;
            let third = |number: usize| number as u16 * (SLOTS / 3);
            let last = if number == 2 { SLOTS - 1 } else { third(number + 1) - 1 };
            command::<Value>(&admin, &format!("CLUSTER ADDSLOTSRANGE {} {last}", third(number))).await;
            for (other, bus) in cluster.nodes.iter().zip(&buses) {
                command::<Value>(&admin, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port())).await;
            }
        }
        let agreed = async {
            for number in 0..cluster.nodes.len() {
                let admin = cluster.admin(number).await;
                loop {
                    let slots: Value = command(&admin, "CLUSTER SLOTS").await;
                    let info: String = command(&admin, "CLUSTER INFO").await;
                    if slots.array_len() == Some(3) && info.contains("cluster_state:ok") {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, agreed).await.expect("the nodes agree");
        println!("Redis: a cluster of three processes");
        cluster
    }

    /// Starts a process that knows no other yet, and answers with the port of its cluster bus.
    async fn add_node(&mut self) -> u16 {
        let bus = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let port = bus.to_string();
        let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &port, "--cluster-node-timeout", "1000"];
        // The others go on when one is away.
        all.extend(["--cluster-require-full-coverage", "no"]);
        // Their defaults of seconds are for real networks.
        all.extend(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
        all.extend(self.options.iter().map(String::as_str));
        self.nodes.push(RedisServer::start_with(&all).await);
        bus
    }

    /// Adds a replica of a node, and waits until it could take over.
    ///
    /// # Panics
    /// When it does not come so far.
    pub async fn add_replica(&mut self, of: usize) {
        let bus = self.add_node().await;
        let primary = self.admin(of).await;
        let replica = self.nodes.last().expect("it was added");
        let admin = connect(&replica.url()).await;
        let id: String = command(&primary, "CLUSTER MYID").await;
        command::<Value>(&primary, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", replica.port())).await;
        let ready = async {
            // It has to have heard of the primary first, and then of its data.
            while !command::<String>(&admin, "CLUSTER NODES").await.contains(&id) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            command::<Value>(&admin, &format!("CLUSTER REPLICATE {id}")).await;
            while !command::<String>(&admin, "INFO replication").await.contains("master_link_status:up") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let port = replica.port().to_string();
            while !format!("{:?}", command::<Value>(&primary, "CLUSTER SLOTS").await).contains(&port) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the replica is ready");
    }

    /// A plain connection to one node.
    pub async fn admin(&self, number: usize) -> Client {
        connect(&self.nodes[number].url()).await
    }

    /// The number of the node that has the slot of this key.
    pub async fn owner(&self, key: &str) -> usize {
        let slot: u16 = command(&self.admin(0).await, &format!("CLUSTER KEYSLOT {key}")).await;
        usize::from(slot / (SLOTS / 3)).min(2)
    }

    /// Moves a slot, with its keys, to another node, as `redis-cli --cluster reshard` does.
    ///
    /// # Panics
    /// When the nodes refuse.
    pub async fn move_slot(&self, key: &str, from: usize, to: usize) {
        let (source, target) = (self.admin(from).await, self.admin(to).await);
        let slot: u16 = command(&source, &format!("CLUSTER KEYSLOT {key}")).await;
        let source_id: String = command(&source, "CLUSTER MYID").await;
        let target_id: String = command(&target, "CLUSTER MYID").await;
        command::<Value>(&target, &format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")).await;
        command::<Value>(&source, &format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")).await;
        let keys: Vec<String> = command(&source, &format!("CLUSTER GETKEYSINSLOT {slot} 1000")).await;
        for key in keys {
            let port = self.nodes[to].port();
            command::<Value>(&source, &format!("MIGRATE 127.0.0.1 {port} {key} 0 5000")).await;
        }
        for admin in [&target, &source] {
            command::<Value>(admin, &format!("CLUSTER SETSLOT {slot} NODE {target_id}")).await;
        }
    }
}
