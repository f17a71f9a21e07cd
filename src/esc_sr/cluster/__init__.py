"""More than one machine: pictures over the nodes of a Ray cluster, by the code that does them on one.

Ray is imported when a cluster is asked for.
"""
