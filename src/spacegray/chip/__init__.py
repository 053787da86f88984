"""The security chip's firmware: judges what may boot, speaks to the silicon, never sees a key.

One process per workstation (`__main__`), reached through one mailbox (`client`). `firmware` gives
each request to who knows its subject: `life` (birth, erasing), `access` (passwords, recovery),
`tickets` (what may start), `starting` (one start, with `recovery_port`), `vouching` (statements),
`disks`, `showing` with `promises`; `core` is what they share. The others hold one matter each:
`vault` (with `boot_state`, `vault_words` and `tpm`) and `ssd` (with `controller` and `modules`) the
parts it runs, `images`, `manifest`, `variables` (with `store`, `signatures` and `revocations`) and
`keeping` what it checks, makes and keeps, `messages`, `mailbox` and `limits` how it is spoken to,
`attestation` how others check what it says.
"""
