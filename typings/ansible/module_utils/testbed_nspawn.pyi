from roles.testbed.module_utils.testbed_nspawn import *
