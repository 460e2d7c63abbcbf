//! So many packets of one connection through the whole core, and nothing else: what the budget of
//! instructions is counted with.
//!
//!     packets METHOD FAMILY COUNT     nat, nat-reply, dr or ipip; 4 or 6
//!
//! `benches/budget` runs it under callgrind with two counts; the difference is the packets' own.

mod rig;

use rig::{Method, Shape};
use tapvs::packet::{Family, Packet};
use tapvs::world::Instant;

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [method, family, count] = args.as_slice() else {
        return Err("packets METHOD FAMILY COUNT".to_owned());
    };
    let family = if family == "6" { Family::V6 } else { Family::V4 };
    let count: u32 = count.parse().map_err(|_| format!("{count} is no number"))?;
    let reply = method == "nat-reply";
    let named = |one: &Method| one.name() == method || (reply && *one == Method::Nat);
    let method = Method::ALL.into_iter().find(named).ok_or("no such method")?;
    let shape = Shape { servers: 1, ..Shape::plain(method, family) };
    let mut engine = shape.engine();
    let mut packet = Packet::with_capacity(2048);
    let now = Instant::from_millis(1000);
    let request = shape.datagram(1, 0, 18);
    let frame = if reply { shape.answer(1, shape.server(0), 18) } else { request.clone() };
    if !rig::give(&mut engine, now, &mut packet, &request) {
        return Err("the first packet is not sent on".to_owned());
    }
    let sent = (0..count).filter(|_| rig::give(&mut engine, now, &mut packet, &frame)).count();
    match u32::try_from(sent) {
        Ok(sent) if sent == count => Ok(()),
        _ => Err(format!("{sent} of {count} were sent on\n{}", engine.frames())),
    }
}
