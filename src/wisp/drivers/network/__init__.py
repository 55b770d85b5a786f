"""The emulated network: namespaces, veth links, taps and routes over raw netlink, and links that take their time.

=============  ==========================================================================================
``netlink``    messages as bytes; a socket that sends many and waits once
``message``    the messages we send: links, addresses, routes, queueing disciplines
``nexthops``   next hops as objects of the kernel, and the routes that name them
``alias``      what an interface is for, written on it
``contents``   what one namespace has, read back from the kernel, and the whole network put together from it
``place``      one namespace of ours: its descriptor, its netlink socket, its kernel settings, its taps
``xtables``    the rules that hand packets to the delay line
``shaping``    which delay lines and rules a link needs, and whether they are in force
``kernel``     everything that blocks, for one thread to do
``emulated``   the driver
=============  ==========================================================================================
"""
