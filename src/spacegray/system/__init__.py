"""Operating system images: Debian packages to a sealed volume, a kernel image and a disk layout.

`build.build` makes (or finds) an image, `layout` says what to write where on a disk. The guest's
own files are in `guest/`; `inside/` runs within the build's user namespace.
"""
