/* What the shim and the Go side of the library share. Not installed. */
#ifndef EESP_SHIM_H
#define EESP_SHIM_H

#include "eesp.h"

#define EESP_ERROR_TEXT 256 /* octets of a thread's last error */

#endif
