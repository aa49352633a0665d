/* Loaded into a process before all other libraries (LD_PRELOAD), answers CPUID as a CPU without AMX and AVX512-FP16 does,
   or with -DNO_AVX512 as one without AVX-512 at all.

   Linux lets the instruction fault, in this thread and those that it starts, where the CPU can (cpuid_fault in
   /proc/cpuinfo); the signal's handler asks the CPU, clears the features and goes on after it. */

#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { SET_CPUID = 0x1012 }; /* of arch_prctl: 0 lets CPUID fault, 1 does not */

/* Leaf 7: F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT,
   AMX-BF16, FP16, AMX-TILE, AMX-INT8. Its subleaf 1: BF16, AMX-FP16, AVX-IFMA left in. */
#define BIT(n) (1u << (n))
#ifdef NO_AVX512
#define LEAF_7_B (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define LEAF_7_C (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
#define LEAF_7_D (BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25))
#define LEAF_7_1_A (BIT(5) | BIT(21))
#define SAVED (BIT(0) | BIT(1) | BIT(2)) /* of leaf 13, what the system keeps: x87, SSE, AVX */
#else
#define LEAF_7_B 0u
#define LEAF_7_C 0u
#define LEAF_7_D (BIT(22) | BIT(23) | BIT(24) | BIT(25))
#define LEAF_7_1_A BIT(21)
#define SAVED (BIT(0) | BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7)) /* and AVX-512 */
#endif

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    if (memcmp((const void *)r[REG_RIP], "\x0f\xa2", 2)) { /* another fault: it ends the program as it always does */
        signal(number, SIG_DFL);
        return;
    }
    const unsigned leaf = (unsigned)r[REG_RAX], part = (unsigned)r[REG_RCX];
    unsigned a, b, c, d;
    syscall(SYS_arch_prctl, SET_CPUID, 1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(part));
    syscall(SYS_arch_prctl, SET_CPUID, 0);
    if (leaf == 7 && part == 0) b &= ~LEAF_7_B, c &= ~LEAF_7_C, d &= ~LEAF_7_D;
    if (leaf == 7 && part == 1) a &= ~LEAF_7_1_A;
    if (leaf == 13 && part == 0) a &= SAVED;
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
    r[REG_RIP] += 2;
}

__attribute__((constructor)) static void narrow(void) {
    static const char failed[] = "CPUID cannot be changed here: this CPU or system does not let it fault\n";
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, NULL) || syscall(SYS_arch_prctl, SET_CPUID, 0)) {
        (void)!write(2, failed, sizeof failed - 1);
        _exit(3);
    }
}
