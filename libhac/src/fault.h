/* SPDX-License-Identifier: MIT */
/* The process's SIGSEGV handler: write faults in areas, and nothing else. */
#ifndef HAC_FAULT_H
#define HAC_FAULT_H

/* Install the handler, or put it in front again where another one stands
 * there. 0 or -errno. */
int fault_claim(void);

#endif
