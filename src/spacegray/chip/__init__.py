"""The security chip's firmware: judges what may boot, speaks to the silicon, never sees a key.

One process per workstation (`__main__`), reached through one mailbox (`client`). The others
hold one matter each: `vault` and `ssd` (with `controller` and `modules`) the parts it runs,
`images`, `manifest`, `variables` and `authenticode` what it checks and makes, `messages` and
`mailbox` how it is spoken to.
"""
