//! Landlock.

use std::error::Error;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};

/// The newest Landlock that this code knows; an older kernel gives what it has.
const LANDLOCK_ABI: ABI = ABI::V6;

/// Leaves the process the plain files in these `folders`: to read, write, make, remove and rename.
///
/// No other file of any name, no TCP, no signal and no abstract socket of a process outside.
/// Returns whether the kernel enforces it, wholly or in part.
pub fn restrict_files(folders: &[BorrowedFd<'_>]) -> Result<bool, Box<dyn Error>> {
    let in_a_folder: BitFlags<AccessFs> = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?;
    for folder in folders {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, in_a_folder))?;
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}
