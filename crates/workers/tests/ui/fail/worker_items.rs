use pytoweb_workers::worker;

#[worker]
struct NotAnImpl;

struct Service;

#[worker]
impl Clone for Service {
    fn clone(&self) -> Self {
        Self
    }
}

#[worker]
impl Service {
    fn nothing_is_marked(&self) {}
}

fn main() {}
