//! The server's rules about schedules. Pure: a store only writes down what comes out.

mod activate;
mod control;
mod fire;
mod run;

pub use activate::{Activation, Known, NotActivated, activate, create, reuse};
pub use control::set_status;
pub use fire::{Fire, OVERLAP_EXPLANATION, Previous, fire, next_run_at};
pub use run::create_run;
