"""The paper's analyses of networks (Figures 2 and 5 to 9, Table 3): arrays, and figures drawn from them.

Each module measures one thing, and draws what it measured; it knows pictures as arrays, and networks by the
layers that they have.
"""
