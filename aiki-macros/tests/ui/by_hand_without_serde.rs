use aiki::prelude::*;

struct Order;

fn main() {
    let _ = Task::new("charge", |_: TaskContext, _: Order| async { Ok::<_, Failure>(1) });
}
