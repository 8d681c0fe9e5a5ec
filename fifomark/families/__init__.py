"""Judge 2: which kind of network a set of named tensors is, and building it. One file per family; torch only behind `build`."""
