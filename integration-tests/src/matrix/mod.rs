//! Scenes of the fault matrix that have a size: small ones are tests, large ones are run by the program `matrix`. Each
//! fails where a promise is broken, and answers what it measured.

pub mod crowd;
pub mod outage;
pub mod restart;
pub mod storm;
