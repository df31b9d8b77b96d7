//! Making streams and groups.

use fred::interfaces::StreamsInterface;
use fred::types::Value;

use super::Pump;
use crate::classify::{Failure, Trouble, classify};
use crate::health::add;
use crate::key::GROUP;

/// Groups that are made in one pipeline.
const PIPELINE: usize = 200;

impl Pump {
    /// Makes every stream and group that is missing, from the first entry on: what was added meanwhile
    /// is not lost, and what comes twice is harmless. Streams of another type are left alone.
    pub(crate) async fn make_groups(&mut self) -> Result<(), Failure> {
        let keys = self.streams.keys();
        let mut made = 0;
        for (part, keys) in keys.chunks(PIPELINE).enumerate() {
            let asked = |client: fred::clients::Client| async move {
                let pipeline = client.pipeline();
                for key in keys {
                    pipeline.xgroup_create::<(), _, _, _>(key, GROUP, "0", true).await?;
                }
                Ok(pipeline.try_all::<Value>().await)
            };
            let answers = self.broker.control.ask(asked).await?;
            for (offset, answer) in answers.into_iter().enumerate() {
                let at = part * PIPELINE + offset;
                let was_broken = self.state.broken[at];
                self.state.broken[at] = false;
                match answer {
                    Ok(_) => made += 1,
                    Err(error) if error.details().starts_with("BUSYGROUP") => {}
                    Err(error) if classify(&error) == Trouble::WrongType => {
                        self.state.broken[at] = true;
                        if !was_broken {
                            tracing::error!(key = self.streams.all()[at].key, "the key is not a stream: left alone");
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let broken = self.state.broken.iter().zip(&keys).filter(|(broken, _)| **broken).map(|(_, key)| key.clone());
        self.intake.set_broken(self.number, broken.collect());
        if made > 0 && !self.state.first {
            add(&self.counters.groups_recreated, made);
            tracing::warn!(groups = made, "streams or groups were gone and are made again");
        }
        self.state.first = false;
        self.state.drained = false;
        Ok(())
    }
}
