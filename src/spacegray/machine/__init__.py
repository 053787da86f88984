"""The board: processor, memory, graphics, network and ports, as a QEMU virtual machine."""
