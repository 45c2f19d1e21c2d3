"""`reinforce doctor`: what works of this installation, this machine and the catalog, and how to mend the rest.

Each module looks at one thing and yields findings; none imports an optional package, nor torch: what is installed is
imported in a process of its own, so that a broken package is a finding too.

    finding       one line of the report
    packages      versions against those that the project asks for, extra by extra, and whether they can be imported
    imports       the other process
    machine       processor, memory, GPUs; the commands on the PATH
    places        disk space, names of the catalog, what was left unfinished in the working folder
    variables     what the environment says, without secrets
    doctor        the verb
"""
