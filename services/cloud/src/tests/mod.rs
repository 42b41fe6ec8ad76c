//! Cloud's pages as a browser meets them, between an issuer and an Admin that are made here.

mod admin;
mod backchannel;
mod forms;
mod house;
mod issuer;
mod launch;
mod session;
mod sign_in;
