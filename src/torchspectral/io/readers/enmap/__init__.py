"""EnMAP products of DLR."""
