"""What a container engine has to run, and nothing more than that.

``steps`` is the way through for ``apt.txt``, ``postBuild`` and other languages, ``foreign_image`` for Dockerfiles::

    image of direct layers --step.finished_container--> what changed in it --engine_layers--> one layer a step
      scripts     what is run, from repo2docker's build packs where they know (buildpacks)
    Dockerfile --dockerfile.built_image--> the engine's image --saved_layers--> layers with constant times
      image_check what a notebook server and a worker need, and what is missing

``engine`` is the docker command; the limits of the facility hold for everything that runs.
"""
