"""The security chip's firmware: judges what may boot, speaks to the silicon, never sees a key.

One process per workstation (`__main__`), reached through one mailbox (`client`). `firmware` gives
each request to who knows its subject: `life` (birth, erasing), `access` (passwords, recovery),
`vouching` (signatures, statements), `starting`, `disks`, `showing` with `promises`; `core` is
what they share. The others hold one matter each: `vault` (with `tpm`) and `ssd` (with
`controller` and `modules`) the parts it runs, `images`, `manifest`, `variables` and `authenticode`
what it checks and makes, `messages`, `mailbox` and `limits` how it is spoken to, `attestation`
how others check what it says.
"""
