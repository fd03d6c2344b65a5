//! What takes a minute, all of it in the same minute: peers that stop talking, at both servers, and ten thousand that never begin.

use crate::bad_door::half_open_peers_are_given_up;
use crate::flood::ten_thousand_silent_connections_cost_little_and_end;
use crate::site::At;

#[test]
fn silent_peers_cost_little_and_are_given_up_after_a_minute() {
    let parts: [fn(); 3] = [
        || half_open_peers_are_given_up(At::Hub),
        || half_open_peers_are_given_up(At::Edge),
        ten_thousand_silent_connections_cost_little_and_end,
    ];
    let running = parts.map(std::thread::spawn);
    // All have to end, so that none leaves programs behind when another fails.
    let ended = running.map(std::thread::JoinHandle::join);
    if let Some(panic) = ended.into_iter().find_map(Result::err) {
        std::panic::resume_unwind(panic);
    }
}
