//! The front end as a client sees it, over a real socket.

mod client;
mod fuzz;
mod handshake;
mod transmission;
