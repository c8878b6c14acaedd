//! The lab's commands.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

/// `hbat record`.
#[derive(Debug, Clone, Args)]
pub struct Record {
    /// Change a setting of the lab, such as beta=0.3 or lanes=["hbat","mix"]; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The recording, which the lab's page plays.
    #[arg(short, long, value_name = "FILE", required_unless_present = "ghosts")]
    pub output: Option<PathBuf>,
    /// Also train with many seeds, from that of the settings on, and write where each run ends.
    #[arg(long, value_name = "FILE")]
    pub ghosts: Option<PathBuf>,
    /// How many seeds that are.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = super::at_least_one, requires = "ghosts")]
    pub seeds: usize,
}

/// `hbat lab`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The port; 0 takes any that is free.
    #[arg(short, long, value_name = "PORT", default_value_t = 4228)]
    pub port: u16,
    /// The address to listen at. Others than this machine reach the lab only if it is changed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Open a browser.
    #[arg(long)]
    pub open: bool,
    /// A folder with the built page, instead of the page inside this program.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
