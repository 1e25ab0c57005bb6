"""Lets torchvision be imported beside a torch that it was not built for, such as a CPU-only one.

Only the registration of shapes for its detection ops would fail, and nothing here uses these.
"""

import sys
import types

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
