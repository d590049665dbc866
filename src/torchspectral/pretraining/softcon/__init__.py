"""SoftCon: contrast of views guided by how alike the labels of two scenes are."""
